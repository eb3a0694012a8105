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
(function () {
  // Copying, where the page may use the clipboard and where it may not (a file from disk in some browsers).
  function copied(text, button) {
    function done() { var before = button.textContent; button.textContent = "Copied"; setTimeout(function () { button.textContent = before; }, 1200); }
    function byHand() {
      var area = document.createElement("textarea");
      area.value = text;
      (button.closest("dialog") || document.body).appendChild(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    }
    if (navigator.clipboard) { navigator.clipboard.writeText(text).then(done, byHand); } else { byHand(); }
  }
  function tool(words, work) {
    var made = document.createElement("button");
    made.type = "button";
    made.className = "tool";
    made.textContent = words;
    made.addEventListener("click", function () { work(made); });
    return made;
  }
  function save(name, kind, text) {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: kind }));
    link.download = name;
    link.click();
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }
  function named(node) {
    var heads = Array.prototype.filter.call(document.querySelectorAll("h2, h3"), function (one) { return one.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING; });
    var last = heads[heads.length - 1];
    return ((last && last.textContent) || "table").trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");
  }
  // Commands: each block of one has a button.
  document.querySelectorAll("pre").forEach(function (block) {
    if (!/^wormwheel |^python -m /.test(block.textContent.trim()) && !block.hasAttribute("data-command")) { return; }
    var button = tool("Copy", function (made) { copied(block.textContent.trim(), made); });
    button.dataset.copy = "";
    block.after(button);
  });
  document.querySelectorAll("[data-command-text]").forEach(function (button) {
    button.addEventListener("click", function () { copied(button.dataset.commandText, button); });
  });
  // Tables: as CSV and as LaTeX.
  function rowsOf(table) {
    return Array.prototype.map.call(table.rows, function (row) {
      return Array.prototype.map.call(row.cells, function (cell) {
        var words = Array.prototype.map.call(cell.childNodes, function (part) { return part.textContent.trim(); }).filter(Boolean);
        return words.join(" ").replace(/\s+/g, " ");
      });
    });
  }
  function csv(table) {
    return rowsOf(table).map(function (row) { return row.map(function (cell) { return /[",\n]/.test(cell) ? '"' + cell.replace(/"/g, '""') + '"' : cell; }).join(","); }).join("\n") + "\n";
  }
  function latex(table) {
    var special = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--", "×": "$\\times$", "−": "$-$" };
    var rows = rowsOf(table).map(function (row) { return row.map(function (cell) { return cell.replace(/[\\&%$#_{}~^–×−]/g, function (one) { return special[one]; }); }).join(" & ") + " \\\\"; });
    var columns = Math.max.apply(null, Array.prototype.map.call(table.rows, function (row) { return row.cells.length; }));
    return ["\\begin{tabular}{l" + "r".repeat(columns - 1) + "}", "\\toprule", rows[0], "\\midrule"].concat(rows.slice(1), ["\\bottomrule", "\\end{tabular}", ""]).join("\n");
  }
  document.querySelectorAll("main table.sortable").forEach(function (table) {
    var line = document.createElement("p");
    line.className = "tools";
    line.appendChild(tool("Copy LaTeX", function (made) { copied(latex(table), made); }));
    line.appendChild(tool("Save CSV", function () { save(named(table) + ".csv", "text/csv", csv(table)); }));
    table.after(line);
  });
  // Plots: as SVG, with the page's colours written in, and as PDF by the browser's own printing.
  function still(svg) {
    var copy = svg.cloneNode(true), from = [svg].concat(Array.from(svg.querySelectorAll("*"))), to = [copy].concat(Array.from(copy.querySelectorAll("*")));
    from.forEach(function (node, k) {
      var style = getComputedStyle(node);
      ["fill", "stroke", "stroke-width", "opacity", "font-size", "font-family", "text-anchor", "stroke-linejoin"].forEach(function (name) { to[k].style.setProperty(name, style.getPropertyValue(name)); });
      to[k].removeAttribute("class");
    });
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return new XMLSerializer().serializeToString(copy);
  }
  // A plot stands in a figure with a caption of its own, or alone in a box below a heading.
  document.querySelectorAll("main figure.panel svg, main figure.plot svg, main .box > svg").forEach(function (svg) {
    var figure = svg.closest("figure.panel, figure.plot") || svg.parentNode;
    if (figure.querySelector("svg") !== svg || figure.classList.contains("sticky")) { return; }
    var line = document.createElement("p");
    line.className = "tools";
    line.appendChild(tool("SVG", function () {
      var head = figure.querySelector("figcaption");
      save((((head && head.textContent) || svg.getAttribute("aria-label") || "plot").trim().toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60)) + ".svg", "image/svg+xml", still(svg));
    }));
    line.appendChild(tool("PDF", function () {
      figure.classList.add("printed");
      document.body.classList.add("printing-one");
      window.print();
      document.body.classList.remove("printing-one");
      figure.classList.remove("printed");
    }));
    var below = Array.from(figure.children).find(function (one) { return one.tagName === "H3" && (svg.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING); });
    figure.insertBefore(line, below || null);
  });
  // Navigation: the headings, where there are many.
  var heads = Array.from(document.querySelectorAll("main > h2")), header = document.querySelector("main > header");
  if (heads.length > 3 && header) {
    var nav = document.createElement("nav");
    nav.className = "contents";
    nav.setAttribute("aria-label", "Contents");
    heads.forEach(function (head, k) {
      if (!head.id) { head.id = "part-" + k; }
      var link = document.createElement("a");
      link.href = "#" + head.id;
      link.textContent = head.textContent;
      nav.appendChild(link);
    });
    header.after(nav);
  }
})();
