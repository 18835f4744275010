// Every heading sorts its table: numbers from the largest on, words from A on; a second click turns it round.
"use strict";
const figure = (cell) => {
  const text = (cell.firstChild ? cell.firstChild.textContent : "").replace("−", "-").replace(/[*,%\s]/g, "");
  const number = parseFloat(text.replace("<", ""));
  return Number.isNaN(number) ? null : number;
};
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const body = table.tBodies[0];
      const rows = [...body.rows];
      const numeric = column > 0 && rows.some((row) => figure(row.cells[column]) !== null);
      const before = heading.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : !numeric;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const sign = ascending ? 1 : -1;
      rows.sort((a, b) => {
        if (!numeric) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
        const [x, y] = [figure(a.cells[column]), figure(b.cells[column])];
        if (x === null || y === null) return (x === null) - (y === null); // what has no number stands last
        return sign * (x - y);
      });
      body.append(...rows);
    });
  });
}
