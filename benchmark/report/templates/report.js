"use strict";
// The browser of questions. All of them are in the page as JSON, column by column (benchmark/report/case_browser.py); only those on
// the page that is turned up become elements, and every text enters as text.
(() => {
  const PER_PAGE = 24;
  const LETTERS = "ABCD";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const form = document.querySelector(".filters");
  const list = document.querySelector(".cases");
  const after = data.sides[data.sides.length - 1];
  const before = data.sides.length > 1 ? data.sides[0] : null;
  const outcomes = data.outcomes.map(([name]) => name);
  let images = null;
  let page = 0;

  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const percent = (permille) => `${(permille / 10).toFixed(1)}\u202f%`;
  const truth = (side, index) => side.permille[index][data.answer[index]];

  // What can be asked for beside disease, source and outcome: only what occurs is offered.
  const wanted = {
    unnamed: ["Reply names no option", (i) => after.said && after.said[i][4] > 0],
    disagree: ["Letters and words disagree", (i) => after.split && after.split[i]],
    unsteady: ["Answer depends on the order", (i) => after.orders && Math.max(...after.orders[i]) < after.rotations],
    tied: ["Several options tie", (i) => after.picked[i] < 0 && Math.max(...after.permille[i]) > 0],
  };

  const votes = (counts, rotations, none) => {
    const named = counts.map((n, k) => [n, k < 4 ? LETTERS[k] : none]).filter(([n]) => n > 0);
    return rotations === 1 ? named[0][1] : named.sort((a, b) => b[0] - a[0]).map(([n, name]) => `${name} ${n}`).join(", ");
  };

  const facts = (index) => {
    const found = make("dl", "facts");
    const add = (term, text) => found.append(make("dt", "", term), make("dd", "", text));
    for (const side of data.sides) {
      const when = before ? ` ${side.side}` : "";
      if (side.orders) add(`Orders${when}`, votes(side.orders[index], side.rotations, "none or tie"));
      if (side.said) {
        const none = side.said[index][4] === side.rotations;
        add(`Words${when}`, `“${side.reply[index]}”: ${none ? "no option" : votes(side.said[index], side.rotations, "none")}`);
      }
      if (side.likeliest) add(`Name${when}`, side.likeliest[index] < 0 ? "a tie" : LETTERS[side.likeliest[index]]);
    }
    return found;
  };

  const option = (index, k) => {
    const item = make("li", data.answer[index] === k ? "true" : "");
    const name = make("div", "name");
    name.append(make("span", "letter", LETTERS[k]), make("span", "text", data.names[data.options[index][k]]));
    if (data.answer[index] === k) name.append(make("span", "mark", "✓ true"));
    item.append(name);
    for (const side of data.sides) {
      const chosen = side.picked[index] === k;
      const bar = make("div", `bar ${side.side}${chosen ? " chosen" : ""}`);
      const track = make("span", "track");
      const fill = make("span", "fill");
      fill.style.width = `${side.permille[index][k] / 10}%`;
      track.append(fill);
      bar.append(track, make("span", "", `${percent(side.permille[index][k])}${chosen ? " chosen" : ""}`));
      item.append(bar);
    }
    return item;
  };

  const card = (index) => {
    const [outcome, label] = data.outcomes[data.outcome[index]];
    const item = make("li", "case");
    item.dataset.code = data.classes[data.class[index]][0];
    item.dataset.outcome = outcome;
    const body = make("div", "body");
    const uri = images[data.image[index]];
    const picture = uri ? make("img") : make("p", "note", "Image not in this page");
    if (uri) {
      picture.alt = `Image of case ${data.id[index]}`;
      picture.src = uri;
    }
    const side = make("div");
    const kind = make("p", `kind ${outcome}`);
    kind.append(make("b", "", label), ` · ${data.id[index]}`);
    const options = make("ol", "options");
    for (let k = 0; k < 4; k += 1) options.append(option(index, k));
    side.append(kind, make("h3", "", data.questions[data.question[index]]), options, facts(index));
    body.append(picture, side);
    item.append(body);
    return item;
  };

  const matching = () => {
    const value = (name) => (form.elements[name] ? form.elements[name].value : "");
    const [code, source, outcome, only, id] = ["code", "source", "outcome", "only", "id"].map(value);
    const text = id.trim().toLowerCase();
    const found = [];
    for (let i = 0; i < data.id.length; i += 1) {
      if (code !== "" && data.class[i] !== Number(code)) continue;
      if (source !== "" && (data.sources[data.source[i]] || "not stated") !== source) continue;
      if (outcome !== "" && outcomes[data.outcome[i]] !== outcome) continue;
      if (only !== "" && !wanted[only][1](i)) continue;
      if (text && !data.id[i].toLowerCase().includes(text)) continue;
      found.push(i);
    }
    const gain = (i) => truth(after, i) - truth(before, i);
    const wrong = (i) => (after.picked[i] === data.answer[i] || after.picked[i] < 0 ? -1 : after.permille[i][after.picked[i]]);
    const keys = { sure: wrong, gain, loss: (i) => -gain(i) };
    const key = keys[value("order")];
    return key ? found.map((i) => [key(i), i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(([, i]) => i) : found;
  };

  const show = () => {
    if (!images) images = read("images");
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    list.replaceChildren(...shown.map(card));
    document.querySelector(".none").hidden = found.length > 0;
    const first = page * PER_PAGE + 1;
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = false;
      pager.querySelector("p").textContent = found.length
        ? `${first.toLocaleString("en")} to ${(first + shown.length - 1).toLocaleString("en")} of ${found.length.toLocaleString("en")}`
        : "0 questions";
      for (const button of pager.querySelectorAll("button")) {
        button.disabled = Number(button.dataset.step) < 0 ? page === 0 : page >= pages - 1;
        button.parentElement.hidden = pages === 1;
      }
    }
  };

  for (const [name, [label, matches]] of Object.entries(wanted)) {
    const n = data.id.reduce((sum, _, i) => sum + (matches(i) ? 1 : 0), 0);
    if (n) form.elements.only.append(new Option(`${label} (${n.toLocaleString("en")})`, name));
  }
  form.elements.only.parentElement.hidden = form.elements.only.options.length === 1;
  form.hidden = false;
  const restart = () => {
    page = 0;
    show();
  };
  form.addEventListener("change", restart);
  form.elements.id.addEventListener("input", restart);
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll(".pager button")) {
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      show();
      document.querySelector("#browser").scrollIntoView();
    });
  }
  show();
})();
