// A cell of a heat map or a point of a curve opens its drives, each with its command.
(function () {
  var dialog = document.getElementById("drives");
  if (!dialog || !dialog.showModal || typeof DRIVES === "undefined") { return; }
  var body = dialog.querySelector("tbody"), title = dialog.querySelector("h2"), command = dialog.querySelector("pre");
  var copy = dialog.querySelector("[data-copy]");
  function quoted(word) { return /^[\w@%+=:,.\/-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\"'\"'") + "'"; }
  function commandOf(row) {
    var begin = DRIVES.begin[row[0] + " " + row[1]];
    if (!begin) { return ""; }
    var seconds = Math.min(DRIVES.most_s, Math.ceil(row[6] + (row[7] ? DRIVES.more_s : 0)));
    var option = DRIVES.filmed ? " --perturbation " : " --perturbations ";
    var wrong = row[2] ? option + quoted(row[2]) + " --noise-seed " + row[4] : "";
    if (!DRIVES.filmed) { return begin + wrong + " --seed " + row[3] + " " + DRIVES.end; }
    var name = (row[0] + "-" + row[1] + "-" + (row[2] || "clean").replace(/[^\w.+-]/g, "-") + "-road-" + row[3] + ".mp4").replace(/\s/g, "-");
    return begin + wrong + " --seed " + row[3] + " --seconds " + seconds + (DRIVES.end ? " " + DRIVES.end : "") + " --out " + quoted(name);
  }
  function cellOf(row, words, kind) {
    var made = row.insertCell();
    made.textContent = words;
    if (kind) { made.className = kind; }
    return made;
  }
  function open(driver, words, fits) {
    var rows = DRIVES.drives.filter(function (one) { return one[0] === driver && fits(one); });
    rows.sort(function (a, b) { return b[7] - a[7] || b[5] - a[5]; });
    title.textContent = driver + ": " + words;
    body.textContent = command.textContent = "";
    copy.hidden = true;
    rows.forEach(function (one, number) {
      var row = body.insertRow(), film = DRIVES.films[one.slice(0, 5).join(" ")];
      cellOf(row, one[2] || "clean");
      cellOf(row, String(one[3]));
      cellOf(row, String(one[4]), "wide");
      cellOf(row, String(one[1]), "wide");
      cellOf(row, (100 * one[5]).toFixed(1) + " %");
      cellOf(row, one[7] ? "off after " + one[6].toFixed(1) + " s" : "stayed on", one[7] ? "bad" : "");
      var last = row.insertCell(), line = commandOf(one);
      if (film !== undefined) {
        var link = document.createElement("a");
        link.href = "#film-" + film;
        link.textContent = "film";
        link.addEventListener("click", function () { dialog.close(); });
        last.appendChild(link);
      }
      if (line) {
        var button = document.createElement("button");
        button.type = "button";
        button.className = "tool";
        button.textContent = "command";
        button.addEventListener("click", function () { command.textContent = line; copy.hidden = false; copy.scrollIntoView({ block: "nearest" }); });
        last.appendChild(button);
        if (number === 0) { button.click(); }
      }
    });
    dialog.showModal();
    dialog.scrollTop = 0;
  }
  function choose(node) {
    var driver = node.dataset.driver, wrong = node.dataset.wrong, family = node.dataset.family, severity = Number(node.dataset.severity);
    if (wrong !== undefined) { open(driver, wrong || "clean", function (one) { return one[2] === wrong; }); return; }
    open(driver, severity ? family + ", severity " + severity : "clean", function (one) {
      var kind = DRIVES.kinds[one[2]];
      return severity ? kind && kind[1] === family && kind[2] === severity : one[2] === "";
    });
  }
  document.querySelectorAll("[data-driver]").forEach(function (node) {
    node.tabIndex = 0;
    node.setAttribute("role", "button");
    node.addEventListener("click", function () { choose(node); });
    node.addEventListener("keydown", function (event) { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(node); } });
  });
  dialog.querySelector("[data-close]").addEventListener("click", function () { dialog.close(); });
  dialog.addEventListener("click", function (event) { if (event.target === dialog) { dialog.close(); } });
})();
