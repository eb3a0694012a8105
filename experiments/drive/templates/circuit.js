// The circuit on a canvas: lines coloured by their currents, circles by the states, both relative to the largest so far.
function drawnCircuit(canvas, plan) {
  var pen = canvas.getContext("2d"), spread = plan.nodes.map(function () { return 1e-3; }), strongest = [1e-6, 1e-6], colours = null;
  function readColours() {
    var style = getComputedStyle(document.documentElement);
    colours = {};
    ["left", "right", "text", "muted", "surface"].forEach(function (name) { colours[name] = style.getPropertyValue("--" + name).trim(); });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  readColours();
  function way(list, from, group) {
    return list.map(function (s) {
      var a = from(s[0]), b = plan.nodes[s[1]], loop = group === 1 && a.x === b.x, path = new Path2D(), middle = (a.x + b.x) / 2;
      path.moveTo(a.x, a.y);
      if (loop) { path.quadraticCurveTo(a.x + 36 + Math.abs(a.y - b.y) / 5, (a.y + b.y) / 2, b.x, b.y); } else { path.bezierCurveTo(middle, a.y, middle, b.y, b.x, b.y); }
      return { path: path, group: group };
    });
  }
  var spots = plan.features.map(function (spot) { return { x: spot[0], y: spot[1] }; });
  var links = way(plan.sensory, function (k) { return spots[k]; }, 0).concat(way(plan.recurrent, function (k) { return plan.nodes[k]; }, 1));
  var heads = {};
  if (spots.length) {
    heads.features = spots[0].x;
    plan.nodes.forEach(function (n) { heads[n.layer] = n.x; });
  }
  function disc(x, y, radius) { pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.fill(); }
  return function (states, sensory, recurrent) {
    var radius = plan.nodes.length > 40 ? 9 : 14, scale = canvas.width / plan.width;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, plan.width, plan.height);
    if (sensory) {
      var currents = sensory.concat(recurrent);
      links.forEach(function (link, k) { strongest[link.group] = Math.max(strongest[link.group], Math.abs(currents[k])); });
      links.forEach(function (link, k) {
        var share = Math.abs(currents[k]) / strongest[link.group];
        if (share < 0.01) { return; }
        pen.globalAlpha = 0.1 + 0.6 * share;
        pen.lineWidth = 0.4 + 6 * Math.sqrt(share);
        pen.strokeStyle = currents[k] >= 0 ? colours.left : colours.right;
        pen.stroke(link.path);
      });
    }
    pen.globalAlpha = 1;
    pen.fillStyle = colours.muted;
    spots.forEach(function (spot) { disc(spot.x, spot.y, 3.5); });
    pen.font = "19px system-ui, sans-serif";
    pen.textAlign = "center";
    for (var name in heads) { pen.fillText(name, heads[name], 18); }
    pen.lineWidth = 1;
    pen.strokeStyle = colours.text;
    plan.nodes.forEach(function (n, k) {
      spread[k] = Math.max(spread[k], Math.abs(states[k]));
      pen.fillStyle = colours.surface;
      disc(n.x, n.y, radius);
      pen.globalAlpha = Math.abs(states[k]) / spread[k];
      pen.fillStyle = states[k] >= 0 ? colours.left : colours.right;
      disc(n.x, n.y, radius);
      pen.globalAlpha = 1;
      pen.stroke();
    });
  };
}
