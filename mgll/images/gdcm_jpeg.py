"""Decode a grey JPEG file with GDCM, as a process of its own: over some damaged files, GDCM ends the process it runs in.

python gdcm_jpeg.py WIDTH HEIGHT BITS STORED < FILE > VALUES_OF_TWO_BYTES
"""

import sys

import gdcm


def decode(content: bytes, width: int, height: int, bits: int, stored: int) -> bytes | None:
    """The values, two bytes each, or None where GDCM can't decode them.

    Args:
        content: the whole file.
        width: pixels a row, as the file says.
        height: rows, as the file says.
        bits: bits a sample, as the file says.
        stored: how many of them hold a value.
    """
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(content)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((width, height, 1))
    image.SetDataElement(element)
    monochrome = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    # "Allocated" chooses the decoder; the values come in two bytes each all the same.
    image.SetPixelFormat(gdcm.PixelFormat(1, bits, stored, stored - 1, 0))
    decoded: str | None = image.GetBuffer()  # a char*, so GDCM hands out bytes as text
    return None if decoded is None else decoded.encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    values = decode(sys.stdin.buffer.read(), *(int(word) for word in sys.argv[1:]))
    if values is None:
        sys.exit(1)
    sys.stdout.buffer.write(values)
