"use strict";
(function () {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const state = { round: null, view: null };

  function element(name, attributes, parent, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }

  // The colours of the page: a variable where it has one, so that they follow light and dark.
  function themed(color) {
    return `var(--c${color.slice(1).toLowerCase()}, ${color})`;
  }

  function niceStep(most, parts) {
    const raw = most / parts;
    const power = 10 ** Math.floor(Math.log10(raw));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw);
  }

  function highest(histogram, view) {
    let most = 0;
    for (const round of histogram.rounds)
      for (const series of round.views[view] || round.views[""] || [])
        most = Math.max(most, ...series.values);
    return most;
  }

  // ---- histograms, one round at a time --------------------------------------------------------

  function drawHistogram(figure) {
    const histogram = data.histograms[figure.dataset.key];
    if (!histogram) {
      figure.remove();
      return;
    }
    const svg = figure.querySelector("svg");
    const legend = figure.querySelector(".legend");
    svg.replaceChildren();
    legend.replaceChildren();
    const round = histogram.rounds.find((entry) => entry.round === state.round);
    const series = round ? round.views[state.view] || Object.values(round.views)[0] : null;
    if (!series) {
      element("text", { x: 215, y: 110, "text-anchor": "middle" }, svg,
        `round ${state.round} has no such figures`);
      return;
    }
    for (const one of series) {
      const entry = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = themed(one.color);
      entry.append(swatch, one.name);
      legend.appendChild(entry);
    }
    const [right, top, bottom] = [424, 8, 190];
    const step = niceStep(histogram.most || highest(histogram, state.view) || 1, 4);
    const most = histogram.most || step * Math.ceil((highest(histogram, state.view) || 1) / step);
    const written = (value) => String(Math.round(value * 1e6) / 1e6);
    const values = [...Array(Math.floor(most / step + 1e-4) + 1).keys()].map((k) => k * step);
    const longest = Math.max(...values.map((value) => written(value).length));
    const left = Math.max(42, 25 + 6 * longest); // beside the name of the axis
    const y = (value) => bottom - (bottom - top) * Math.min(1, value / most);
    for (const value of values) {
      element("line", { x1: left, x2: right, y1: y(value), y2: y(value), class: "axis" }, svg);
      element("text", { x: left - 7, y: y(value) + 3.5, "text-anchor": "end" }, svg,
        written(value));
    }
    drawBars(svg, histogram, series, { left, right, bottom, y });
    element("text", { x: (left + right) / 2, y: 224, "text-anchor": "middle" }, svg, histogram.x);
    element("text", { x: 0, y: 0, "text-anchor": "middle",
      transform: `translate(9 ${(top + bottom) / 2}) rotate(-90)` }, svg, histogram.y);
  }

  function drawBars(svg, histogram, series, box) {
    const number = histogram.labels.length;
    const width = (box.right - box.left) / number;
    const bar = Math.min(width * 0.86, 48);
    series.forEach((one) => one.values.forEach((value, place) => {
      const rect = element("rect", {
        x: box.left + width * place + (width - bar) / 2, y: box.y(value), width: bar,
        height: Math.max(0, box.bottom - box.y(value)), rx: Math.min(2, bar / 4),
        "fill-opacity": series.length > 1 ? 0.62 : 1, style: `fill: ${themed(one.color)}`,
      }, svg);
      element("title", {}, rect, `${histogram.labels[place]}: ${value} (${one.name})`);
    }));
    const ticks = histogram.ticks || histogram.labels;
    const onEdges = Boolean(histogram.ticks);
    const longest = Math.max(...ticks.map((tick) => String(tick).length));
    const every = onEdges ? Math.ceil(number / 8)
      : Math.max(1, Math.ceil((longest * 5.8 + 7) / width));
    ticks.forEach((tick, place) => {
      if (place % every) return;
      const x = box.left + width * (place + (onEdges ? 0 : 0.5));
      const text = onEdges ? String(Number(Number(tick).toPrecision(2))) : tick;
      element("text", { x, y: box.bottom + 16, "text-anchor": "middle" }, svg, text);
    });
  }

  const figures = [...document.querySelectorAll(".histogram")];
  const sliders = [...document.querySelectorAll(".round-choice")];
  const views = [...document.querySelectorAll(".view-choice")];
  const known = (data.histograms.sizes || { rounds: [] }).rounds.map((entry) => entry.round);

  function showRound(place) {
    state.round = known[place];
    for (const slider of sliders) {
      slider.value = place;
      slider.parentNode.querySelector("output").textContent = state.round;
    }
    figures.forEach((figure) => figure.isConnected && drawHistogram(figure));
  }

  if (known.length) {
    const names = Object.keys(data.histograms.sizes.rounds[0].views);
    state.view = names[0];
    for (const slider of sliders)
      slider.addEventListener("input", () => showRound(Number(slider.value)));
    for (const choice of views)
      choice.addEventListener("change", () => {
        state.view = choice.value;
        for (const other of views) other.value = choice.value;
        figures.forEach((figure) => figure.isConnected && drawHistogram(figure));
      });
    showRound(known.length - 1);
  } else {
    figures.forEach((figure) => figure.remove());
  }

  // ---- the map ----------------------------------------------------------------------------------

  const map = data.map;
  if (!map) return;
  const canvas = document.querySelector("#map canvas");
  const legend = document.querySelector("#map .legend");
  const info = document.querySelector("#map .info");
  const slider = document.getElementById("map-round");
  const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b"];
  const KINDS = { 0: ["right", "#0072b2"], 1: ["mixed", "#e69f00"], 2: ["fragmented", "#56b4e9"],
    3: ["both", "#d55e00"], "-1": ["left out, or unknown", "#9aa0a8"] };
  const RAMP = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"]; // cividis
  const MODES = [["cluster", "cluster"], ["identity", "identity"], ["camera", "camera"],
    ["kind", "right or wrong"], ["certainty", "certainty"]];
  const modes = MODES.filter(([key]) => key === "cluster" || map.rounds.some((r) => r[key]));
  // Identities keep their colours from round to round; clusters are numbered anew in each.
  const first = map.rounds.some((r) => r.identity) ? "identity" : "cluster";
  const view = { round: map.rounds.length - 1, mode: first, focus: null, places: null };

  function groupOf(round, i) {
    if (view.mode === "cluster") return round.label[i];
    if (view.mode === "certainty") return round.label[i];
    return round[view.mode] ? round[view.mode][i] : -1;
  }

  function limits() {
    const values = map.rounds.flatMap((round) => round.certainty || []).filter((v) => v !== null);
    values.sort((a, b) => a - b);
    const at = (share) => values[Math.floor(share * (values.length - 1))];
    return values.length ? [at(0.02), at(0.98)] : [0, 1];
  }
  const [low, high] = limits();

  function blend(share) {
    const place = Math.min(0.9999, Math.max(0, share)) * (RAMP.length - 1);
    const [a, b] = [RAMP[Math.floor(place)], RAMP[Math.floor(place) + 1]];
    const mix = [1, 3, 5].map((k) => {
      const [one, two] = [parseInt(a.substr(k, 2), 16), parseInt(b.substr(k, 2), 16)];
      return Math.round(one + (two - one) * (place % 1));
    });
    return `rgb(${mix.join(",")})`;
  }

  const style = getComputedStyle(document.documentElement);
  const onPage = (color) => style.getPropertyValue(`--c${color.slice(1)}`) || color;

  // Colour and shape of a point; groups beyond seven repeat the colours with another shape.
  function look(round, i) {
    if (view.mode === "kind") return [onPage(KINDS[round.kind ? round.kind[i] : -1][1]), 0];
    if (view.mode === "certainty") {
      const value = round.certainty ? round.certainty[i] : null;
      return value === null ? [null, 0] : [blend((value - low) / (high - low || 1)), 0];
    }
    const group = groupOf(round, i);
    if (group < 0) return [null, 0];
    return [onPage(PALETTE[group % 7]), Math.floor(group / 7) % 3];
  }

  function mark(context, x, y, size, shape) {
    context.beginPath();
    if (shape === 0) context.arc(x, y, size, 0, 7);
    else if (shape === 1) context.rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8);
    else {
      context.moveTo(x, y - size * 1.2);
      context.lineTo(x + size * 1.15, y + size * 0.9);
      context.lineTo(x - size * 1.15, y + size * 0.9);
      context.closePath();
    }
  }

  function screen(place) {
    const half = canvas.clientWidth / 2 * 0.96;
    return [canvas.clientWidth / 2 + place[0] * half, canvas.clientHeight / 2 - place[1] * half];
  }

  function draw() {
    const round = map.rounds[view.round];
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const size = Math.max(2, Math.min(4.2, 150 / Math.sqrt(round.x.length)));
    const chosen = view.focus === null ? null : groupOf(round, view.focus);
    const order = [...round.x.keys()];
    if (chosen !== null) order.sort((a, b) =>
      (groupOf(round, a) === chosen) - (groupOf(round, b) === chosen));
    for (const i of order) {
      const [x, y] = screen(view.places[i]);
      const [color, shape] = look(round, i);
      const dimmed = chosen !== null && groupOf(round, i) !== chosen;
      context.globalAlpha = dimmed ? 0.12 : color ? 0.85 : 0.5;
      mark(context, x, y, color ? size : size * 0.8, shape);
      if (color) {
        context.fillStyle = color;
        context.fill();
      } else {
        context.strokeStyle = "#9aa0a8";
        context.lineWidth = 1;
        context.stroke();
      }
    }
    if (view.focus !== null) {
      const [x, y] = screen(view.places[view.focus]);
      context.globalAlpha = 1;
      mark(context, x, y, size + 3, 0);
      context.strokeStyle = style.getPropertyValue("--ink");
      context.lineWidth = 1.5;
      context.stroke();
    }
  }

  function addLegend(color, text) {
    const entry = document.createElement("span");
    const swatch = document.createElement("i");
    if (color) swatch.style.background = onPage(color);
    else swatch.style.border = "1.5px solid #9aa0a8";
    entry.append(swatch, text);
    legend.appendChild(entry);
  }

  function drawLegend() {
    legend.replaceChildren();
    const round = map.rounds[view.round];
    const title = document.createElement("b");
    title.textContent = modes.find(([key]) => key === view.mode)[1];
    legend.appendChild(title);
    if (view.mode === "kind") {
      for (const key of ["0", "1", "2", "3", "-1"]) addLegend(KINDS[key][1], KINDS[key][0]);
    } else if (view.mode === "certainty") {
      const ramp = document.createElement("div");
      ramp.className = "ramp";
      ramp.style.background = `linear-gradient(90deg, ${RAMP.join(",")})`;
      const ends = document.createElement("div");
      ends.className = "ends";
      const sign = map.measure === "uncertainty" ? -1 : 1;
      for (const [value, word] of [[low, "doubtful"], [high, "certain"]]) {
        const end = document.createElement("span");
        end.textContent = `${word} (${(sign * value).toPrecision(2)})`;
        ends.appendChild(end);
      }
      legend.append(`by ${map.measure}`, ramp, ends);
      addLegend(null, "not known");
    } else if (view.mode === "camera") {
      const cameras = [...new Set(round.camera)].sort((a, b) => a - b);
      for (const camera of cameras.slice(0, 14)) addLegend(PALETTE[camera % 7], `camera ${camera}`);
      if (cameras.length > 7) legend.append("colours repeat with another shape");
    } else {
      const groups = new Set(round.x.map((_, i) => groupOf(round, i)).filter((g) => g >= 0));
      const what = view.mode === "cluster" ? "clusters" : "identities";
      const count = document.createElement("span");
      count.className = "wide";
      count.textContent = `${groups.size} ${what}; colours and shapes repeat`;
      legend.appendChild(count);
      PALETTE.forEach((color) => addLegend(color, ""));
      addLegend(null, view.mode === "cluster" ? "left out" : "not known");
    }
    legend.classList.toggle("flat", view.mode === "cluster" || view.mode === "identity");
  }

  function say() {
    const round = map.rounds[view.round];
    info.replaceChildren();
    if (view.focus === null) {
      const kept = round.variance === null ? "" :
        ` The map was given ${Math.round(100 * round.variance)} % of the variance.`;
      info.textContent = `${round.x.length} images.${kept} Point at one of them.`;
      return;
    }
    const i = view.focus;
    const lines = [`image ${round.rows[i]}`,
      round.label[i] >= 0 ? `cluster ${round.label[i]}` : "left out"];
    if (round.identity)
      lines.push(`identity ${round.identity[i] < 0 ? "not known" : round.identity[i]}`);
    if (round.camera) lines.push(`camera ${round.camera[i]}`);
    if (round.kind) lines.push(KINDS[round.kind[i]][0]);
    if (round.certainty && round.certainty[i] !== null) {
      const sign = map.measure === "uncertainty" ? -1 : 1;
      lines.push(`${map.measure} ${(sign * round.certainty[i]).toPrecision(3)}`);
    }
    for (const line of lines) {
      info.append(line, document.createElement("br"));
    }
  }

  // As large as the canvas allows, whose width is 4/3 of its height.
  function places(number) {
    const round = map.rounds[number];
    let extent = 1e-9;
    for (let i = 0; i < round.x.length; i++)
      extent = Math.max(extent, Math.abs(round.x[i]), Math.abs(round.y[i]) * 4 / 3);
    return round.x.map((x, i) => [x / extent, round.y[i] / extent]);
  }

  function refresh() {
    drawLegend();
    say();
    draw();
  }

  // Points glide to their places in the next round, unless the reader asked for little motion.
  let running = 0;
  function showMap(number) {
    const from = map.rounds[view.round];
    const before = new Map(from.rows.map((row, i) => [row, view.places ? view.places[i] : null]));
    view.round = number;
    view.focus = null;
    slider.value = number;
    slider.parentNode.querySelector("output").textContent = map.rounds[number].round;
    const to = places(number);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const own = ++running;
    const start = performance.now();
    drawLegend();
    say();
    if (still || !view.places) {
      view.places = to;
      draw();
      return;
    }
    function step(now) {
      if (own !== running) return;
      const share = Math.min(1, (now - start) / 450);
      const eased = share * share * (3 - 2 * share);
      view.places = to.map((place, i) => {
        const old = before.get(map.rounds[number].rows[i]) || place;
        return [old[0] + (place[0] - old[0]) * eased, old[1] + (place[1] - old[1]) * eased];
      });
      draw();
      if (share < 1) requestAnimationFrame(step);
    }
    requestAnimationFrame(step);
  }

  function nearest(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [best, found] = [14 * 14, null];
    view.places.forEach((place, i) => {
      const [px, py] = screen(place);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < best) [best, found] = [distance, i];
    });
    return found;
  }

  function focus(found) {
    if (found === view.focus) return;
    view.focus = found;
    say();
    draw();
  }

  const colors = document.getElementById("map-colors");
  for (const [key, name] of modes) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.mode = key;
    button.textContent = name;
    button.setAttribute("aria-pressed", String(key === view.mode));
    button.addEventListener("click", () => {
      view.mode = key;
      for (const other of colors.children)
        other.setAttribute("aria-pressed", String(other === button));
      refresh();
    });
    colors.appendChild(button);
  }
  slider.addEventListener("input", () => showMap(Number(slider.value)));
  canvas.addEventListener("mousemove", (event) => focus(nearest(event)));
  canvas.addEventListener("mouseleave", () => focus(null));
  canvas.addEventListener("click", (event) => focus(nearest(event)));
  window.addEventListener("resize", draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  showMap(view.round);
})();
