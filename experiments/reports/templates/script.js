document.querySelectorAll("table.sortable").forEach(function (table) {
  var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    var button = head.querySelector("button");
    if (!button) { return; }
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var rows = Array.prototype.slice.call(table.tBodies[0].rows);
      rows.sort(function (a, b) {
        var p = a.cells[column].dataset.value, q = b.cells[column].dataset.value, x = Number(p), y = Number(q);
        if (!p || !q) { return !p - !q; }  // what has no value comes last
        if (x !== x || y !== y) { return up ? p.localeCompare(q) : q.localeCompare(p); }
        return up ? x - y : y - x;
      });
      rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
    });
  });
});
