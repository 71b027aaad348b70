"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const missing = "–";
  const byName = (id) => document.getElementById(id);
  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  // Numbers sort as numbers, names as people count, and what is missing comes last in both directions.
  const sortBy = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const head = heads[column];
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const numeric = head.classList.contains("number");
    const value = (row) => row.cells[column].dataset.value;
    const compare = numeric
      ? (a, b) => Number(a) - Number(b)
      : (a, b) => a.localeCompare(b, undefined, { numeric: true });
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return descending ? compare(b, a) : compare(a, b);
    });
    table.tBodies[0].append(...rows);
  };
  for (const table of document.querySelectorAll("table")) {
    table.addEventListener("click", (event) => {
      const head = event.target.closest("thead th");
      if (head) sortBy(table, head.cellIndex);
    });
  }

  // Colours follow the page, light or dark; "ink" in a figure stands for the colour of text.
  const themed = (figure) => {
    const style = getComputedStyle(document.documentElement);
    const [ink, faint, line] = ["--ink", "--faint", "--line"].map((name) => style.getPropertyValue(name).trim());
    const traces = JSON.parse(JSON.stringify(figure.data), (key, value) => (key === "color" && value === "ink" ? ink : value));
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
    const layout = {
      height: 340,
      margin: { l: 56, r: 16, t: 16, b: 48 },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      font: { color: ink, family: "system-ui, sans-serif", size: 12 },
      hovermode: "closest",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger that drags scrolls the page
      modebar: { bgcolor: "transparent", color: faint, activecolor: ink },
      ...structuredClone(figure.layout),
    };
    layout.xaxis = { ...axis, ...layout.xaxis };
    layout.yaxis = { ...axis, ...layout.yaxis };
    return [traces, layout];
  };

  // What a point says can be longer than its plot is high, so it stands in a box of the page.
  const tip = document.body.appendChild(element("div", "", { id: "tip", hidden: "" }));
  const showTip = ({ event, points: [point] }) => {
    const text = point.data.hovertext;
    tip.textContent = Array.isArray(text) ? text[point.pointNumber] : text;
    tip.hidden = false;
    const within = (wanted, size, room) => Math.max(4, Math.min(wanted, room - size - 4));
    const beside = event.clientX + 16 + tip.offsetWidth < innerWidth ? event.clientX + 16 : event.clientX - 16 - tip.offsetWidth;
    tip.style.left = `${within(beside, tip.offsetWidth, innerWidth)}px`;
    tip.style.top = `${within(event.clientY - tip.offsetHeight / 2, tip.offsetHeight, innerHeight)}px`;
  };

  const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
  const drawn = new Map();
  const draw = (place, figures) => {
    for (const old of place.querySelectorAll(".plot")) {
      Plotly.purge(old);
      drawn.delete(old);
    }
    const plots = figures.map((figure) => {
      const plot = element("div", "", { class: "plot", role: "img", "aria-label": figure.title });
      drawn.set(plot, figure);
      return plot;
    });
    place.replaceChildren(
      ...plots.map((plot) => {
        const frame = document.createElement("figure");
        const { title, note } = drawn.get(plot);
        frame.append(element("h3", title), plot);
        if (note) frame.append(element("figcaption", note));
        return frame;
      }),
    );
    for (const plot of plots) {  // only now are they as wide as they stay
      Plotly.newPlot(plot, ...themed(drawn.get(plot)), { responsive: true, displaylogo: false, modeBarButtons: buttons });
      plot.on("plotly_hover", showTip);
      plot.on("plotly_unhover", () => (tip.hidden = true));
    }
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const [plot, figure] of drawn) Plotly.react(plot, ...themed(figure));
  });

  const choose = () => {
    const model = data.models[byName("model").value];
    const table = byName("layer-table");
    const head = document.createElement("tr");
    model.header.forEach((title, column) => {
      const cell = head.appendChild(element("th", "", { scope: "col", "aria-sort": "none" }));
      if (model.numeric[column]) cell.className = "number";
      cell.append(element("button", title, { type: "button" }));
    });
    const rows = model.rows.map((texts) => {
      const row = document.createElement("tr");
      texts.forEach((text, column) => {
        const cell = row.appendChild(element("td", text));
        if (model.numeric[column]) cell.className = "number";
        if (text !== missing) cell.dataset.value = text;
      });
      return row;
    });
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...rows);
    draw(byName("layer-figures"), model.figures);
  };
  byName("model").addEventListener("change", choose);
  draw(byName("figures"), data.figures);
  choose();
}
