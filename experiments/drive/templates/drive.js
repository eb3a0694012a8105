(function () {
  var NS = "http://www.w3.org/2000/svg", byId = function (id) { return document.getElementById(id); };
  var socket = null, open = false, finished = false, paused = false, last = null, clock = { offset: 0, rtt: Infinity };
  var ages = [], count = 0, held = { left: false, right: false }, sentHold = 0, pad = { active: false, buttons: [] };
  var circuit = D.circuit ? drawnCircuit(byId("circuit"), D.circuit) : null;

  function make(parent, name, attributes, text) {
    var node = document.createElementNS(NS, name);
    for (var key in attributes) { node.setAttribute(key, attributes[key]); }
    if (text !== undefined) { node.textContent = text; }
    parent.appendChild(node);
    return node;
  }
  function send(message) { if (open) { socket.send(JSON.stringify(message)); } }
  function now() { return performance.now() + clock.offset; }  // the server's clock, ms
  function signed(value, digits) { return (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(digits); }
  function text(id, words) { var node = byId(id); if (node && node.textContent !== words) { node.textContent = words; } }
  function tone(value) { return value >= 0 ? "left" : "right"; }

  // The connection.
  function connect() {
    socket = new WebSocket("ws://" + location.host + "/drive" + location.search);
    socket.binaryType = "arraybuffer";
    socket.onopen = function () { open = true; clock.rtt = Infinity; ping(); if (paused) { send({ kind: "pause", on: true }); } };
    socket.onmessage = function (event) {
      if (typeof event.data !== "string") { arrive(event.data); return; }
      var answer = JSON.parse(event.data), rtt = performance.now() - answer.pong;
      if (rtt < clock.rtt) { clock = { rtt: rtt, offset: answer.clock_ms - answer.pong - rtt / 2 }; }
    };
    socket.onclose = function (event) {
      open = false;
      if (event.code === 4001) { text("status", "Another window drives now. Reload this one to take over."); return; }
      if (finished) { text("status", "Finished. What was recorded is in " + D.out + "."); return; }
      text("status", "The connection is lost: has the command ended?");
      setTimeout(connect, 1000);
    };
  }
  function ping() { send({ kind: "ping", at_ms: performance.now() }); }
  setInterval(function () { clock.rtt *= 1.2; ping(); }, 1000);

  // Frames: decoded one at a time, the newest first, shown with the next repaint.
  var waiting = null, decoding = false;
  function arrive(buffer) { waiting = buffer; if (!decoding) { decode(); } }
  function decode() {
    var buffer = waiting, length = new DataView(buffer).getUint32(0, true), bytes = new Uint8Array(buffer);
    waiting = null;
    decoding = true;
    var said = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    var large = bytes.subarray(4 + length, 4 + length + said.bytes[0]), own = bytes.subarray(4 + length + said.bytes[0]);
    var pictures = [createImageBitmap(new Blob([own], { type: "image/png" }))];
    if (large.length) { pictures.push(createImageBitmap(new Blob([large], { type: "image/jpeg" }))); }
    Promise.all(pictures).then(function (maps) {
      requestAnimationFrame(function () {
        draw(said, maps[0], maps[1] || maps[0]);
        decoding = false;
        if (waiting) { decode(); }
      });
    });
  }

  function draw(said, own, view) {
    var canvas = byId("view");
    if (canvas.width !== 640) { canvas.width = 640; }
    canvas.getContext("2d").drawImage(view, 0, 0, canvas.width, canvas.height);
    var age = now() - said.made_ms, known = clock.rtt < Infinity;
    send({ kind: "shown", number: said.n, age_ms: known ? age : null });
    if (known) { ages.push(age); if (ages.length > 100) { ages.shift(); } }
    if (said.road) { drawRoad(said.road); }
    if (said.account) { drawAccount(said.account); }
    drawGauge(said);
    last = said;
    count += 1;
    if (count % 2) { drawOwn(said, own); drawMap(said); tell(said); }  // the road first: the rest of the page is slower
    if (said.saliency) { look(said); }
    if (circuit && said.states) {
      circuit(said.states, said.sensory, said.recurrent);
      if (said.tau_s) {
        text("tau", "· time constants " + (1000 * Math.min.apply(null, said.tau_s)).toFixed(0) + " to " + (1000 * Math.max.apply(null, said.tau_s)).toFixed(0) + " ms");
      }
    }
  }

  function tell(said) {
    var policy = D.policy || "the policy", mine = said.who === "human";
    var words = paused ? "Paused" : said.ended ? (said.ended === "off the road" ? "Off the road" : "Time is up") : mine ? "You drive" : policy + " drives";
    text("status", words + (said.recording ? ", recording" : ""));
    var banner = byId("banner"), note = paused ? "Paused: P goes on" : said.ended === "off the road" ? "Off the road: the next one comes" : said.ended ? "Time is up: the next road comes" : said.notice;
    banner.hidden = !note;
    text("banner", note);
    text("speed", said.speed_mps.toFixed(2) + " m/s");
    text("speed-more", "of " + said.wanted_mps.toFixed(2));
    text("time", said.time_s.toFixed(0) + " s");
    text("way", said.way_m.toFixed(0) + " m");
    text("offset", Math.abs(100 * said.offset_m).toFixed(0) + " cm " + (said.offset_m >= 0 ? "left" : "right"));
    text("offset-more", "lane of " + (100 * said.lane_width_m).toFixed(0) + " cm");
    if (looked) { text("looked", ", " + ago(looked, said)); }
    if (accounted) { text("sentence-age", "(" + ago(accounted, said) + ")"); }
    if (ages.length && count % 10 === 1) {
      var sorted = ages.slice().sort(function (a, b) { return a - b; });
      var high = sorted[Math.floor(0.95 * (sorted.length - 1))];
      text("age", sorted[Math.floor(sorted.length / 2)].toFixed(0) + " ms");
      text("age-high", "95 %: " + high.toFixed(0) + " ms");
      byId("age").className = high > 60 ? "bad" : "";
    }
    text("taken-kept", said.interventions + " recorded");
    text("kept-more", said.stretches.human + " episodes");
    text("kept", said.frames.human + (said.recording && mine ? said.frames.pending : 0) + " frames");
    text("taken", String(said.take_overs));
    press("record", said.recording, said.recording ? "Recording" : "Record");
    press("hand", !mine, mine ? "Hand over" : "Take back");
    press("pause", paused, paused ? "Go on" : "Pause");
    text("acting", said.acting ? "Now: " + said.acting.split("+").join(", ").replace(/_/g, " ") + "." : "Nothing is wrong with it.");
    if (document.activeElement !== byId("speed-in")) { byId("speed-in").value = said.wanted_mps; }
    text("speed-out", said.wanted_mps.toFixed(2) + " m/s");
  }
  function press(id, on, words) {
    var button = byId(id);
    if (!button) { return; }
    button.setAttribute("aria-pressed", String(on));
    if (button.firstElementChild.textContent !== words) { button.firstElementChild.textContent = words; }
  }

  function drawOwn(said, own) {
    var canvas = byId("own"), pen = canvas.getContext("2d");
    if (canvas.width !== own.width) { canvas.width = own.width; canvas.height = own.height; }
    pen.drawImage(own, 0, 0);
    if (glow) { pen.drawImage(glow, 0, 0, canvas.width, canvas.height); }
  }
  // Looks into the policy come less often than frames.
  var glow = null, looked = null;
  function ago(then, said) { return then && then.drive === said.drive ? Math.max(0, said.time_s - then.time_s).toFixed(1) + " s ago" : "in the drive before"; }
  function look(said) {
    looked = { time_s: said.looked_s, drive: said.drive };
    var rows = said.saliency[0], columns = said.saliency[1], raw = atob(said.saliency[2]), lit = new ImageData(columns, rows);
    for (var k = 0; k < raw.length; k++) {
      var heat = Math.pow(raw.charCodeAt(k) / 255, 0.7);
      lit.data[4 * k] = 255; lit.data[4 * k + 1] = 150; lit.data[4 * k + 2] = 20; lit.data[4 * k + 3] = 230 * heat;
    }
    createImageBitmap(lit).then(function (map) { glow = map; });
  }

  var gauge = byId("gauge");
  make(gauge, "path", { d: "M20 22L620 22", stroke: "var(--grid)", "stroke-width": 8, "stroke-linecap": "round" });
  make(gauge, "path", { d: "M320 8L320 36", stroke: "var(--muted)", "stroke-width": 1 });
  make(gauge, "text", { x: 20, y: 42 }, "left"); make(gauge, "text", { x: 620, y: 42, "text-anchor": "end" }, "right");
  var bar = make(gauge, "path", { stroke: "var(--text)", "stroke-width": 8, "stroke-linecap": "round" });
  var place = make(gauge, "circle", { cy: 36, r: 5, fill: "var(--good)" }), ghost = make(gauge, "path", { stroke: "var(--first)", "stroke-width": 5 });
  function across(value) { return (320 - 300 * Math.max(-1, Math.min(1, value))).toFixed(1); }
  function drawGauge(said) {
    bar.setAttribute("d", "M320 22L" + across(said.steering) + " 22");
    place.setAttribute("cx", across(said.offset_m / said.lane_width_m));
    place.setAttribute("fill", Math.abs(said.offset_m) > 0.5 * said.lane_width_m ? "var(--alarm)" : "var(--good)");
    if (said.suggestion !== null) { ghost.setAttribute("d", "M" + across(said.suggestion) + " 8L" + across(said.suggestion) + " 36"); }
  }

  var map = byId("map"), car = null;
  function drawRoad(road) {
    var xs = road.map(function (p) { return p[0]; }), ys = road.map(function (p) { return -p[1]; });
    var left = Math.min.apply(null, xs), top = Math.min.apply(null, ys), wide = Math.max.apply(null, xs) - left, tall = Math.max.apply(null, ys) - top;
    var size = Math.max(wide, 2 * tall), edge = 0.06 * size;
    map.textContent = "";
    map.setAttribute("viewBox", [left - edge - (size - wide) / 2, top - edge / 2 - (size / 2 - tall) / 2, size + 2 * edge, size / 2 + edge].join(" "));
    var d = road.map(function (p, k) { return (k ? "L" : "M") + p[0] + " " + (-p[1]); }).join("") + "Z";
    make(map, "path", { d: d, "class": "outline", "stroke-width": 0.035 * size });
    car = make(map, "path", { d: "M" + 0.045 * size + " 0L" + -0.03 * size + " " + 0.026 * size + "L" + -0.03 * size + " " + -0.026 * size + "Z", fill: "var(--first)" });
  }
  function drawMap(said) {
    if (!car) { return; }
    car.setAttribute("transform", "translate(" + said.pose[0] + " " + (-said.pose[1]) + ") rotate(" + (-said.pose[2] * 180 / Math.PI) + ")");
    car.setAttribute("fill", said.ended === "off the road" ? "var(--alarm)" : "var(--first)");
  }

  var accounted = null;
  function drawAccount(a) {
    accounted = { time_s: a.time_s, drive: a.drive };
    text("sentence", "At " + a.time_s.toFixed(1) + " s it " + (last && last.who === "policy" ? "steered " : "would have steered ") + signed(a.steering, 2) + ", and " + signed(a.reference, 2)
      + " had the picture stood still for the last eight frames: " + signed(a.change, 3) + ", to the " + tone(a.change) + ". The shares sum to that" + (a.gap > 0.01 ? ", but for " + (100 * a.gap).toFixed(0) + " %." : "."));
    var under = byId("under"), own = byId("own"), regions = byId("regions"), ways = byId("ways");
    under.width = own.width; under.height = own.height;
    var pen = under.getContext("2d");
    pen.filter = "grayscale(1) brightness(0.8)";
    pen.drawImage(own, 0, 0);
    regions.textContent = ways.textContent = "";
    regions.setAttribute("viewBox", "0 0 " + a.regions[0].length + " " + a.regions.length);
    regions.setAttribute("preserveAspectRatio", "none");
    var most = Math.max.apply(null, a.regions.map(function (line) { return Math.max.apply(null, line.map(Math.abs)); })) || 1;
    a.regions.forEach(function (line, r) {
      line.forEach(function (share, c) {
        make(regions, "rect", { x: c, y: r, width: 1, height: 1, fill: "var(--" + tone(share) + ")", opacity: (0.8 * Math.abs(share) / most).toFixed(3) });
      });
    });
    a.ways.forEach(function (way) {
      var item = document.createElement("li"), figure = document.createElement("b");
      item.textContent = way[0] + " ";
      figure.textContent = signed(way[1], 3);
      figure.className = "tone-" + tone(way[1]);
      item.appendChild(figure);
      ways.appendChild(item);
    });
  }

  // Keys.
  function hold() {
    var direction = (held.left ? 1 : 0) - (held.right ? 1 : 0);
    if (direction !== sentHold) { sentHold = direction; send({ kind: "hold", direction: direction }); }
  }
  var sides = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right" };
  var speeds = { ArrowUp: 0.1, w: 0.1, ArrowDown: -0.1, s: -0.1 };
  function setSpeed(value) { send({ kind: "speed", wanted_mps: Math.max(0, Math.min(D.fastest, Math.round(100 * value) / 100)) }); }
  function nameOf(event) { return event.key.length === 1 ? event.key.toLowerCase() : event.key; }
  document.addEventListener("keydown", function (event) {
    var key = nameOf(event), inControl = event.target.matches("input, select, button, summary");
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target.matches("input, select") && (key.indexOf("Arrow") === 0 || event.target.matches("select")))) { return; }
    if (sides[key]) { held[sides[key]] = true; hold(); event.preventDefault(); return; }
    if (speeds[key]) { if (last) { setSpeed(last.wanted_mps + speeds[key]); last.wanted_mps += speeds[key]; } event.preventDefault(); return; }
    if (event.repeat || (key === " " && inControl)) { return; }
    var button = { " ": "hand", r: "record", p: "pause", n: "next", b: "again" }[key];
    if (button && byId(button)) { byId(button).click(); event.preventDefault(); }
  });
  document.addEventListener("keyup", function (event) {
    var side = sides[nameOf(event)];
    if (side) { held[side] = false; hold(); }
  });
  addEventListener("blur", function () { held.left = held.right = false; hold(); });
  document.addEventListener("visibilitychange", function () { if (document.hidden && !paused) { setPaused(true); } });

  // A mouse or a finger on the picture; let go, and the wheel goes straight.
  var view = byId("view"), pressed = false;
  function turnTo(event) {
    var box = view.getBoundingClientRect(), share = 2 * (event.clientX - box.left) / box.width - 1;
    send({ kind: "turn", steering: Math.max(-1, Math.min(1, -1.25 * share)) });
  }
  view.addEventListener("pointerdown", function (event) { pressed = true; view.setPointerCapture(event.pointerId); turnTo(event); });
  view.addEventListener("pointermove", function (event) { if (pressed) { turnTo(event); } });
  ["pointerup", "pointercancel"].forEach(function (kind) {
    view.addEventListener(kind, function () { if (pressed) { pressed = false; sentHold = 0; send({ kind: "hold", direction: 0 }); } });
  });

  // A gamepad: left stick steers, triggers change the speed, A changes hands, B records.
  function readPad() {
    var found = Array.prototype.filter.call(navigator.getGamepads ? navigator.getGamepads() : [], Boolean)[0];
    if (!found) { return; }
    var x = found.axes[0] || 0, live = Math.abs(x) > 0.08;
    if (live) { send({ kind: "turn", steering: Math.max(-1, Math.min(1, -x)) }); } else if (pad.active) { send({ kind: "hold", direction: 0 }); }
    pad.active = live;
    var down = found.buttons.map(function (b) { return b.pressed; });
    [[0, "hand"], [1, "record"]].forEach(function (pair) { if (down[pair[0]] && !pad.buttons[pair[0]] && byId(pair[1])) { byId(pair[1]).click(); } });
    var pull = (found.buttons[7] ? found.buttons[7].value : 0) - (found.buttons[6] ? found.buttons[6].value : 0);
    if (Math.abs(pull) > 0.1 && last) { setSpeed(last.wanted_mps + 0.05 * pull); }
    pad.buttons = down;
  }
  setInterval(readPad, 1000 * D.period_s);

  // Buttons and sliders.
  function setPaused(on) { paused = on; send({ kind: "pause", on: on }); if (last) { tell(last); } }
  byId("pause").addEventListener("click", function () { setPaused(!paused); });
  byId("record").addEventListener("click", function () { send({ kind: "record", on: !(last && last.recording) }); });
  if (byId("hand")) { byId("hand").addEventListener("click", function () { send({ kind: "hand", to: last && last.who === "human" ? "policy" : "human" }); }); }
  byId("next").addEventListener("click", function () { send({ kind: "restart" }); });
  byId("again").addEventListener("click", function () { send({ kind: "restart", same: true }); });
  byId("end").addEventListener("click", function () { finished = true; send({ kind: "end" }); });
  document.querySelectorAll("button").forEach(function (one) { one.addEventListener("pointerup", function () { one.blur(); }); });
  var speed = byId("speed-in"), variety = byId("variety-in");
  speed.max = D.fastest.toFixed(2);
  speed.value = D.wanted;
  speed.addEventListener("input", function () { setSpeed(Number(speed.value)); text("speed-out", Number(speed.value).toFixed(2) + " m/s"); });
  variety.value = D.variety;
  text("variety-out", D.variety.toFixed(2));
  variety.addEventListener("input", function () { text("variety-out", Number(variety.value).toFixed(2)); });
  variety.addEventListener("change", function () { send({ kind: "variety", variety: Number(variety.value) }); });
  var families = Array.prototype.slice.call(document.querySelectorAll("[data-family]"));
  function chosen(box) {
    var family = box.dataset.family, name = box.querySelector("select").value, severity = Number(box.querySelector("input").value);
    var kind = D.menu[family].filter(function (one) { return one.name === name; })[0];
    box.classList.toggle("on", severity > 0);
    box.querySelector("output").textContent = severity ? severity + " of 5: " + kind.doses[severity - 1].toPrecision(3).replace(/\.?0+$/, "") + " " + kind.unit + (kind.later ? " (from the next road)" : "") : "none";
    return [name, severity];
  }
  function perturb() {
    var severities = {};
    families.forEach(function (box) { var found = chosen(box); if (found[1]) { severities[box.dataset.family] = found; } });
    send({ kind: "perturb", severities: severities });
  }
  families.forEach(function (box) {
    var before = D.severities[box.dataset.family], slider = box.querySelector("input");
    if (before) { box.querySelector("select").value = before[0]; slider.value = before[1]; chosen(box); }
    slider.addEventListener("input", function () { chosen(box); });
    slider.addEventListener("change", perturb);
    box.querySelector("select").addEventListener("change", function () { if (chosen(box)[1]) { perturb(); } this.blur(); });
  });
  document.querySelectorAll("input[type=range]").forEach(function (one) { one.addEventListener("pointerup", function () { one.blur(); }); });
  byId("clear").addEventListener("click", function () { families.forEach(function (box) { box.querySelector("input").value = 0; }); perturb(); });
  connect();
})();
