// Without scripts the tables are as written; with them each heading becomes a button that sorts by its column.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = (cell.dataset.sort ?? cell.innerText).replace(/\u2212/g, "-").replace(/[\u202f\u00a0\u00ad]/g, "").trim();
    const found = parseFloat(text.replace(/^<\s*/, ""));
    return Number.isNaN(found) ? text.toLowerCase() : found;
  };
  // Numbers before words, and cells without a value last whichever way is sorted.
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  const empty = (v) => v === "" || v === "\u2013";
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].map((row) => [value(row, column), row]);
        rows.sort(([a], [b]) => (empty(a) || empty(b) ? empty(a) - empty(b) : sign * order(a, b)));
        body.append(...rows.map(([, row]) => row));
      }
    });
  });
}
