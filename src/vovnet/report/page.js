"use strict";
{
  const missing = "–";

  // Numbers sort by their unrounded values, names as people count, and missing values come last in both directions.
  const sortBy = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const head = heads[column];
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const isText = head.classList.contains("text");
    const value = ({ cells }) => cells[column].dataset.value ?? cells[column].textContent.trim();
    const compare = isText ? (a, b) => a.localeCompare(b, undefined, { numeric: true }) : (a, b) => a - b;
    const rows = [...table.tBodies[0].rows];
    rows.sort((first, second) => {
      const [a, b] = [value(first), value(second)];
      if (a === missing || b === missing) return (a === missing) - (b === missing);
      return descending ? compare(b, a) : compare(a, b);
    });
    table.tBodies[0].append(...rows);
  };
  for (const head of document.querySelectorAll("table.numbers thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent.trim();
    button.addEventListener("click", () => sortBy(head.closest("table"), head.cellIndex));
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
  }

  for (const choice of document.querySelectorAll("section.choice")) {
    const options = [...choice.querySelectorAll(":scope > section")];
    const select = document.createElement("select");
    select.id = choice.dataset.label.toLowerCase();
    options.forEach((option, index) => select.add(new Option(option.querySelector("h3").textContent, index)));
    const show = () => options.forEach((option, index) => (option.hidden = String(index) !== select.value));
    select.addEventListener("change", show);
    const label = document.createElement("label");
    label.append(`${choice.dataset.label} `, select);
    choice.querySelector("h2").after(label);
    show();
  }
}
