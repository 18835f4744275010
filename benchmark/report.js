"use strict";
// Shows the cases that match both filters. Without JavaScript every case is visible and the filters stay hidden.
(() => {
  const form = document.querySelector(".filters");
  if (!form) return;
  const cases = [...document.querySelectorAll(".case")];
  const status = document.querySelector("#shown");
  const none = document.querySelector(".none");
  const update = () => {
    const code = form.elements.code.value;
    const outcome = form.elements.outcome.value;
    let shown = 0;
    for (const item of cases) {
      item.hidden = (code !== "" && item.dataset.code !== code) || (outcome !== "" && item.dataset.outcome !== outcome);
      shown += item.hidden ? 0 : 1;
    }
    status.textContent = String(shown);
    none.style.display = shown ? "none" : "block";
  };
  form.hidden = false;
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
