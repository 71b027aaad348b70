"use strict";
{
  const figures = [...document.querySelectorAll(".gallery figure")];
  const choice = document.getElementById("class");
  const problems = document.getElementById("problems");
  const boxes = document.getElementById("boxes");
  const count = document.getElementById("count");
  const isShown = (figure) => !figure.hidden;

  const update = () => {
    const wanted = choice.value;
    for (const figure of figures) {
      const classes = figure.dataset.classes.split(" ");
      figure.hidden = (wanted !== "" && !classes.includes(wanted)) || (problems.checked && !("problem" in figure.dataset));
      for (const group of figure.querySelectorAll("g[data-class]")) {
        group.toggleAttribute("hidden", wanted !== "" && group.dataset.class !== wanted);
      }
    }
    document.body.classList.toggle("without-boxes", !boxes.checked);
    const shown = figures.filter(isShown).length;
    count.textContent = `${shown} of ${figures.length} images`;
  };
  for (const control of [choice, problems, boxes]) control.addEventListener("change", update);
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());

  const enlarge = (figure, on) => {
    for (const other of document.querySelectorAll("figure.large")) other.classList.remove("large");
    if (on) figure.classList.add("large");
  };
  const move = (step) => {
    const shown = figures.filter(isShown);
    if (shown.length === 0) return;
    const at = shown.indexOf(document.activeElement.closest("figure"));
    const next = at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.min(Math.max(at + step, 0), shown.length - 1);
    const wasLarge = document.querySelector("figure.large") !== null;
    shown[next].focus();
    enlarge(shown[next], wasLarge);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === choice && event.key !== "Escape") return; // it has keys of its own
    const figure = document.activeElement.closest("figure");
    if (event.key === "ArrowRight") move(1);
    else if (event.key === "ArrowLeft") move(-1);
    else if (event.key === "Enter" && figure) enlarge(figure, !figure.classList.contains("large"));
    else if (event.key === "Escape") enlarge(null, false);
    else if (event.key === "b") (boxes.checked = !boxes.checked), update();
    else if (event.key === "c") (choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length), update();
    else return;
    event.preventDefault();
  });
  for (const figure of figures) {
    figure.addEventListener("click", () => enlarge(figure, !figure.classList.contains("large")));
  }
  update();
}
