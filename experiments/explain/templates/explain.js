(function () {
  var NS = "http://www.w3.org/2000/svg", byId = function (id) { return document.getElementById(id); };
  var chosen = D.circuit.nodes.length ? D.circuit.nodes[0].id : -1, now = 0, timer = null;
  var moments = Object.keys(D.accounts).map(Number).sort(function (a, b) { return a - b; });
  function make(parent, name, attributes, text) {
    var node = document.createElementNS(NS, name);
    for (var key in attributes) { node.setAttribute(key, attributes[key]); }
    if (text !== undefined) { node.textContent = text; }
    parent.appendChild(node);
    return node;
  }
  function element(parent, name, text, kind) {
    var node = document.createElement(name);
    if (text !== undefined) { node.textContent = text; }
    if (kind) { node.className = kind; }
    parent.appendChild(node);
    return node;
  }
  function tone(value) { return value >= 0 ? "var(--left)" : "var(--right)"; }
  function side(value) { return value >= 0 ? "left" : "right"; }
  function signed(value, digits) { return (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits === undefined ? 3 : digits); }
  function largest(values) { return values.reduce(function (a, b) { return Math.max(a, Math.abs(b)); }, 1e-9); }
  function nameOf(id) { var n = D.circuit.nodes[id]; return n.layer + " " + id; }

  // Steering and offset over the drive.
  var chart = byId("chart"), count = D.frames.length;
  function line(values, scale, colour, width) {
    var points = values.map(function (v, k) {
      return (k ? "L" : "M") + (720 * k / Math.max(count - 1, 1)).toFixed(1) + " " + (45 - 40 * Math.max(-1, Math.min(1, v / scale))).toFixed(1);
    });
    make(chart, "path", { d: points.join(""), stroke: colour, "stroke-width": width });
  }
  make(chart, "path", { d: "M0 45L720 45", stroke: "var(--grid)", "stroke-width": 1 });
  if (D.quantities.offset) { line(D.quantities.offset, largest(D.quantities.offset), "var(--good)", 1.2); }
  line(D.steering, Math.max(0.2, largest(D.steering)), "var(--text)", 1.8);
  var cursor = make(chart, "path", { stroke: "var(--alarm)", "stroke-width": 2 });

  // The circuit: lines once, their colour and width at every moment.
  var svg = byId("circuit"), links = [];
  function place(list, from, recurrent) {
    list.forEach(function (s, number) {
      var a = from(s[0]), b = D.circuit.nodes[s[1]], loop = recurrent && a.x === b.x;
      var bend = loop ? 36 + Math.abs(a.y - b.y) / 5 : 0, middle = (a.x + b.x) / 2;
      var d = loop ? "M" + a.x + " " + a.y + "Q" + (a.x + bend) + " " + ((a.y + b.y) / 2) + " " + b.x + " " + b.y
        : "M" + a.x + " " + a.y + "C" + middle + " " + a.y + " " + middle + " " + b.y + " " + b.x + " " + b.y;
      links.push({ node: make(svg, "path", { d: d, fill: "none" }), from: s[0], to: s[1], number: number, recurrent: recurrent });
    });
  }
  place(D.circuit.sensory, function (k) { return { x: D.circuit.features[k][0], y: D.circuit.features[k][1] }; }, false);
  place(D.circuit.recurrent, function (k) { return D.circuit.nodes[k]; }, true);
  D.circuit.features.forEach(function (spot) { make(svg, "circle", { cx: spot[0], cy: spot[1], r: 3.5, fill: "var(--muted)" }); });
  var heads = {};
  D.circuit.nodes.forEach(function (n) { heads[n.layer] = n.x; });
  if (D.circuit.features.length) {
    heads.features = D.circuit.features[0][0];
    for (var layer in heads) { make(svg, "text", { x: heads[layer], y: 16, "text-anchor": "middle" }, layer); }
  }
  var many = D.circuit.nodes.length > 40, circles = D.circuit.nodes.map(function (n) {
    var circle = make(svg, "circle", { cx: n.x, cy: n.y, r: many ? 9 : 14, "class": "node", tabindex: 0, role: "button", "aria-label": nameOf(n.id) });
    if (!many) { make(svg, "text", { x: n.x, y: n.y + 5, "class": "number" }, n.id); }
    function choose() { chosen = n.id; draw(); }
    circle.addEventListener("pointerenter", choose);
    circle.addEventListener("click", choose);
    circle.addEventListener("focus", choose);
    return circle;
  });
  var spread = D.circuit.nodes.map(function (n) { return largest(D.states.map(function (row) { return row[n.id]; })); });
  var strongest = { true: D.currents ? largest(D.currents.map(largest)) : 1, false: D.sensory ? largest(D.sensory.map(largest)) : 1 };

  function current(link) { return (link.recurrent ? D.currents : D.sensory)[now][link.number]; }

  function drawCircuit() {
    circles.forEach(function (circle, id) {
      var share = D.states[now][id] / spread[id];
      circle.setAttribute("fill", "color-mix(in srgb, " + tone(share) + " " + Math.round(100 * Math.abs(share)) + "%, var(--surface))");
      circle.classList.toggle("chosen", id === chosen);
    });
    links.forEach(function (link) {
      var value = current(link), share = Math.abs(value) / strongest[link.recurrent];
      var near = link.to === chosen || (link.recurrent && link.from === chosen);
      link.node.setAttribute("stroke", tone(value));
      link.node.setAttribute("stroke-width", (0.4 + 6 * Math.sqrt(share)).toFixed(2));
      link.node.setAttribute("opacity", near ? 0.95 : 0.1 + 0.25 * share);
    });
  }

  function drawNeuron() {
    var box = byId("neuron"), id = chosen;
    box.textContent = "";
    if (id < 0) { element(box, "p", "This core has no state."); return; }
    element(box, "h3", nameOf(id) + (D.tau ? ": voltage " : ": state ") + signed(D.states[now][id]));
    if (D.tau) { element(box, "p", "Time constant now: " + (1000 * D.tau[now][id]).toFixed(0) + " ms"); }
    var role = D.roles.values[id], order = role.map(function (v, k) { return k; }).sort(function (a, b) { return Math.abs(role[b]) - Math.abs(role[a]); });
    element(box, "p", "Goes with: " + order.map(function (k) { return D.roles.names[k] + " " + signed(role[k], 2); }).join(", "));
    if (D.silence[id]) { element(box, "p", "Silenced: " + D.silence[id]); }
    var near = links.filter(function (l) { return l.to === id || (l.recurrent && l.from === id); });
    near.sort(function (a, b) { return Math.abs(current(b)) - Math.abs(current(a)); });
    if (!near.length) { return; }
    var table = element(box, "table"), head = element(element(table, "thead"), "tr"), body = element(table, "tbody");
    ["synapse", "sign", "current"].forEach(function (word) { element(head, "th", word); });
    near.slice(0, 12).forEach(function (l) {
      var row = element(body, "tr"), list = l.recurrent ? D.circuit.recurrent : D.circuit.sensory;
      var source = l.recurrent ? nameOf(l.from) : "feature " + l.from;
      element(row, "td", l.to === id ? "from " + source : "to " + nameOf(l.to));
      element(row, "td", list[l.number][2] > 0 ? "excites" : "inhibits");
      element(row, "td", signed(current(l), 4), current(l) >= 0 ? "tone-left" : "tone-right");
    });
    if (near.length > 12) { element(box, "small", "and " + (near.length - 12) + " weaker ones"); }
  }

  function drawAccount() {
    var found = null;
    moments.forEach(function (m) { if (m <= now || found === null) { found = m; } });
    var sentence = byId("sentence"), regions = byId("regions"), back = byId("back"), through = byId("through");
    regions.textContent = back.textContent = through.textContent = "";
    if (found === null) { sentence.textContent = "The drive is too short for an account."; return; }
    var a = D.accounts[found], rows = D.grid[0], columns = D.grid[1];
    sentence.textContent = "At " + D.times_s[found].toFixed(2) + " s it steered " + signed(a.steering) + ", and would have steered " + signed(a.reference)
      + (D.reference === "held" ? " had the picture stood still for the last " : " had it seen nothing for the last ") + D.back + " frames: "
      + signed(a.change) + ", to the " + side(a.change) + ". The shares below sum to that.";
    byId("under").src = D.frames[found];
    regions.setAttribute("viewBox", "0 0 " + columns + " " + rows);
    regions.setAttribute("preserveAspectRatio", "none");
    var most = largest([].concat.apply([], a.regions));
    a.regions.forEach(function (line, r) {
      line.forEach(function (share, c) {
        var rect = make(regions, "rect", { x: c, y: r, width: 1, height: 1, fill: tone(share), opacity: (0.75 * Math.abs(share) / most).toFixed(3) });
        make(rect, "title", {}, signed(share, 4));
      });
    });
    var top = largest(a.back), wide = 340 / a.back.length;
    make(back, "path", { d: "M10 65L350 65", stroke: "var(--grid)" });
    a.back.forEach(function (share, k) {
      var tall = 55 * Math.abs(share) / top;
      make(back, "rect", { x: 12 + k * wide, y: share >= 0 ? 65 - tall : 65, width: wide - 5, height: Math.max(tall, 0.5), fill: tone(share), rx: 2 });
      var age = 1000 * (D.times_s[found] - D.times_s[found - (a.back.length - 1 - k)]);
      if ((a.back.length - 1 - k) % Math.ceil(a.back.length / 4) === 0) {
        make(back, "text", { x: 12 + (k + 0.5) * wide, y: 143, "text-anchor": "middle" }, age ? "−" + age.toFixed(0) + " ms" : "now");
      }
    });
    var ways = [];
    for (var layer in a.layers) {
      if (layer === "sensory") { continue; }
      a.layers[layer].synapses.forEach(function (number, k) {
        var s = D.circuit.recurrent[number];
        ways.push([nameOf(s[0]) + " → " + nameOf(s[1]), a.layers[layer].shares[k]]);
      });
    }
    if (!ways.length) { a.features.forEach(function (share, k) { ways.push(["feature " + k, share]); }); }
    ways.sort(function (x, y) { return Math.abs(y[1]) - Math.abs(x[1]); });
    ways.slice(0, 8).forEach(function (way) {
      var item = element(through, "li", way[0] + "  ");
      element(item, "b", signed(way[1]), way[1] >= 0 ? "tone-left" : "tone-right");
    });
  }

  function draw() {
    byId("seen").src = D.frames[now];
    byId("glow").src = D[document.querySelector("input[name=glow]:checked").value][now];
    byId("clock").textContent = D.times_s[now].toFixed(2) + " s  " + signed(D.steering[now], 2);
    var x = (720 * now / Math.max(count - 1, 1)).toFixed(1);
    cursor.setAttribute("d", "M" + x + " 0L" + x + " 90");
    drawCircuit();
    drawNeuron();
    drawAccount();
  }
  document.querySelectorAll("input[name=glow]").forEach(function (one) { one.addEventListener("change", draw); });
  byId("time").addEventListener("input", function () { now = Number(this.value); draw(); });
  byId("play").addEventListener("click", function () {
    if (timer) { clearInterval(timer); timer = null; this.textContent = "▶"; return; }
    this.textContent = "❚❚";
    timer = setInterval(function () {
      now = (now + 1) % count;
      byId("time").value = now;
      draw();
    }, 1000 * D.period_s);
  });
  now = moments.length ? moments[Math.floor(moments.length / 2)] : 0;
  byId("time").value = now;
  draw();
})();
