"""The table of findings: which code changes which anatomy, and what it paints in which layer."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from mgll.synthetic import choroidal, macular, media, nerve, vascular
from mgll.synthetic.anatomy import Anatomy
from mgll.synthetic.marks import Eye, Rng

Reshape = Callable[[Anatomy, Rng], Anatomy]
Paint = Callable[[Eye, Rng], None]
Views = tuple[float, float, float]


@dataclass(frozen=True)
class Finding:
    """How the finding of a class code is drawn.

    Attributes:
        reshape: replaces parameters of the anatomy before anything is drawn.
        deep: paints under the disc and the vessels.
        shallow: paints over the vessels.
        media: paints or blurs what lies between retina and camera.
        views: odds of the camera's views (`camera.VIEWS`): each service photographs its own part of the eye.
    """

    reshape: Reshape | None = None
    deep: Paint | None = None
    shallow: Paint | None = None
    media: Paint | None = None
    views: Views = (0.62, 0.26, 0.12)


_MACULA: Views = (0.6, 0.4, 0.0)
_DISC: Views = (0.5, 0.05, 0.45)
_WIDE: Views = (0.8, 0.2, 0.0)

#: Benchmark classes that do not say which finding it is -> the findings it can be: grades of `DR`, kinds of `AMD` and `Other`.
GRADES = MappingProxyType(
    {
        "DR": ("Mild NPDR", "Moderate NPDR", "Severe NPDR", "PDR"),
        "AMD": ("Dry AMD", "Wet AMD"),
        "Other": (
            "Laser Scars",
            "ERM",
            "MNF",
            "Asteroid Hyalosis",
            "Macular Hole",
            "Retinitis Pigmentosa",
            "CRAO",
            "Tortuous Vessels",
            "Preretinal Hemorrhage",
        ),
    }
)

FINDINGS = MappingProxyType(
    {
        "Health": Finding(),
        "Myopia": Finding(reshape=choroidal.myopic, deep=choroidal.myopic_atrophy, views=_WIDE),
        "Tessellation": Finding(reshape=choroidal.tessellated, views=_WIDE),
        "Retinitis": Finding(shallow=choroidal.retinitis, views=_WIDE),
        "Chorioretinitis": Finding(deep=choroidal.chorioretinitis, views=_WIDE),
        "Mild NPDR": Finding(shallow=vascular.microaneurysms, views=_WIDE),
        "Moderate NPDR": Finding(shallow=vascular.moderate_npdr, views=_WIDE),
        "Severe NPDR": Finding(reshape=vascular.beaded, shallow=vascular.severe_npdr, views=_WIDE),
        "PDR": Finding(shallow=vascular.proliferative, views=_WIDE),
        "DR": Finding(shallow=vascular.moderate_npdr, views=_WIDE),
        "Drusen": Finding(deep=macular.drusen, views=_MACULA),
        "MH": Finding(media=media.media_haze),
        "CSR": Finding(deep=macular.serous_dome, views=_MACULA),
        "Cataract": Finding(media=media.cataract),
        "AR": Finding(reshape=vascular.sclerotic, views=_WIDE),
        "ODC": Finding(reshape=nerve.cupped, views=_DISC),
        "ODE": Finding(reshape=nerve.swollen, shallow=nerve.swelling_signs, views=_DISC),
        "ODP": Finding(reshape=nerve.pale, views=_DISC),
        "HR": Finding(reshape=vascular.narrowed, shallow=vascular.hypertensive, views=_WIDE),
        "BRVO": Finding(shallow=vascular.branch_vein_occlusion, views=_WIDE),
        "CRVO": Finding(reshape=vascular.congested, shallow=vascular.central_vein_occlusion, views=_WIDE),
        "AMD": Finding(deep=macular.dry_degeneration, views=_MACULA),
        "Dry AMD": Finding(deep=macular.dry_degeneration, views=_MACULA),
        "Wet AMD": Finding(deep=macular.wet_degeneration, views=_MACULA),
        "No AMD": Finding(media=media.aged_lens, views=(0.2, 0.8, 0.0)),
        "DME": Finding(shallow=vascular.macular_edema, views=_MACULA),
        "No DME": Finding(views=_WIDE),
        "Glaucoma": Finding(reshape=nerve.glaucomatous, shallow=nerve.glaucoma_signs, views=_DISC),
        "No Glaucoma": Finding(reshape=nerve.even_cup, views=(0.15, 0.0, 0.85)),
        "CN": Finding(deep=macular.neovascular_membrane, views=_MACULA),
        "Laser Scars": Finding(deep=choroidal.laser_scars, views=_WIDE),
        "ERM": Finding(shallow=macular.epiretinal_membrane, views=_MACULA),
        "MNF": Finding(shallow=nerve.myelinated_fibres, views=_DISC),
        "Asteroid Hyalosis": Finding(media=media.asteroid_hyalosis),
        "Macular Hole": Finding(shallow=macular.macular_hole, views=_MACULA),
        "Retinitis Pigmentosa": Finding(reshape=choroidal.waxy, deep=choroidal.bone_spicules, views=_WIDE),
        "CRAO": Finding(shallow=vascular.artery_occlusion, views=_MACULA),
        "Tortuous Vessels": Finding(reshape=choroidal.tortuous, views=_WIDE),
        "Preretinal Hemorrhage": Finding(shallow=vascular.preretinal_haemorrhage, views=_WIDE),
        # `Other` has no appearance of its own: the finding beside it is drawn.
        "Other": Finding(),
    }
)
