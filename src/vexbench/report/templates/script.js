(() => {
  "use strict";
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => {
    theme.textContent = dark() ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(dark()));
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  show();

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const head = table.tHead.rows[table.tHead.rows.length - 1];
    const body = table.tBodies[0];
    [...head.cells].forEach((cell, column) => {
      const button = cell.querySelector("button");
      button.addEventListener("click", () => {
        const now = cell.getAttribute("aria-sort");
        const first = button.dataset.first ?? "ascending";
        const order = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
        for (const other of head.cells) other.setAttribute("aria-sort", "none");
        cell.setAttribute("aria-sort", order);
        const value = (row) => row.cells[column].dataset.value;
        const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
        // what has no value stands last, whatever the order
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
          return order === "ascending" ? compare(x, y) : compare(y, x);
        });
        body.append(...rows);
      });
    });
  }

  // what is folded away on the screen is part of the print
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
})();
