"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const space = document.querySelector("svg").namespaceURI;
  const colour = (run) => `var(--c${run % 8})`;
  const AXES = { step: "steps", samples: "samples", tokens: "tokens", seconds: "time" };
  const HEIGHT = 210, WIDE = 300, LEFT = 54, RIGHT = 12, TOP = 10, BOTTOM = 26;

  // What is shown: everything that a click can change.
  const state = { axis: "step", smooth: 0, off: new Set(), hidden: new Set(), log: new Set(), zoom: null, at: null };

  const html = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      key.startsWith("on") ? element.addEventListener(key.slice(2), value) : element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };
  const draw = (to, name, attributes, text) => {
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    to.append(element);
    return element;
  };

  const short = (value) => {
    if (value === null || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size >= 1e15) return value.toExponential(2);
    for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
      if (size >= unit) return `${+(value / (name === "k" ? 1e3 : unit)).toPrecision(4)}${name}`;
    }
    if (size !== 0 && size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
    return `${+value.toPrecision(4)}`;
  };
  const clock = (seconds) => {
    if (seconds < 60) return `${+seconds.toPrecision(3)} s`;
    const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
    return whole < 3600 ? `${Math.floor(whole / 60)}:${two(whole % 60)} min`
      : `${Math.floor(whole / 3600)}:${two(Math.floor((whole % 3600) / 60))} h`;
  };
  const place = (value) => (state.axis === "seconds" ? clock(value) : short(value));

  // Round numbers within [low, high], about so many.
  const ticks = (low, high, count) => {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) || 10);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
      found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
    }
    return found;
  };

  // A running mean that weighs the first values as the later ones, and skips gaps.
  const smoothed = (values, keep) => {
    if (keep === 0) return values;
    let sum = 0, weight = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = keep * sum + (1 - keep) * value;
      weight = keep * weight + (1 - keep);
      return sum / weight;
    });
  };

  const table = (run, series) => (series.evaluated ? run.evaluations : run.steps);
  const nearest = (values, at) => {
    let low = 0, high = values.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      values[middle] < at ? (low = middle + 1) : (high = middle);
    }
    return low > 0 && at - values[low - 1] < values[low] - at ? low - 1 : low;
  };

  // The curves of a panel that are on.
  const curves = (panel) => {
    const found = [];
    data.runs.forEach((run, index) => {
      if (state.off.has(index)) return;
      panel.series.forEach((series, order) => {
        const of = table(run, series), x = of.at[state.axis], raw = of.of[series.key];
        if (state.hidden.has(series.key) || !raw || !x || !x.length) return;
        const keep = series.noisy ? state.smooth : 0;
        const band = series.key === "loss" ? [of.of["loss low"], of.of["loss high"]] : [];
        found.push({ run, index, series, order, x, raw, y: smoothed(raw, keep), smooth: keep > 0, band });
      });
    });
    return found;
  };

  const extent = (all) => {
    let low = Infinity, high = -Infinity;
    for (const value of all) {
      if (value === null) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return [low, high];
  };

  const wholeAxis = () => {
    const all = [];
    data.runs.forEach((run, index) => {
      const x = run.steps.at[state.axis];
      if (!state.off.has(index) && x && x.length) all.push(x[x.length - 1]);
    });
    const [, high] = extent(all);
    return [0, high > 0 ? high : 1];
  };

  const path = (curve, values, fx, fy) => {
    let text = "", pen = "M";
    values.forEach((value, i) => {
      const y = value === null ? NaN : fy(value);
      if (!Number.isFinite(y)) { pen = "M"; return; }
      text += `${pen}${fx(curve.x[i]).toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    });
    return text;
  };

  const render = (panel) => {
    const { svg } = panel, width = Math.max(260, svg.clientWidth || 400), height = panel.wide ? WIDE : HEIGHT;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = `${height}px`;
    svg.replaceChildren();
    const [x0, x1] = state.zoom || wholeAxis(), shown = curves(panel);
    const log = state.log.has(panel.title), inside = (x) => x >= x0 && x <= x1;
    const seen = shown.flatMap((c) => {
      const lists = c.smooth ? [c.y, c.raw] : [c.y];
      return lists.flatMap((list) => list.filter((_, i) => inside(c.x[i])));
    });
    let [low, high] = extent(log ? seen.filter((v) => v > 0) : seen);
    if (low > high) {
      draw(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to show");
      panel.frame = null;
      return;
    }
    if (log) [low, high] = [Math.log10(low), Math.log10(high)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    [low, high] = [low - room, high + room];
    const bottom = height - BOTTOM;
    const fx = (x) => LEFT + ((x - x0) / (x1 - x0 || 1)) * (width - LEFT - RIGHT);
    const scale = (y) => bottom - ((y - low) / (high - low)) * (bottom - TOP);
    const fy = (y) => scale(log ? Math.log10(y) : y);
    for (const y of ticks(low, high, 4)) {
      draw(svg, "line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: scale(y), y2: scale(y) });
      draw(svg, "text", { x: LEFT - 7, y: scale(y) + 4, "text-anchor": "end" }, short(log ? 10 ** y : y));
    }
    for (const x of ticks(x0, x1, Math.max(2, Math.floor(width / 110)))) {
      draw(svg, "text", { x: fx(x), y: height - 8, "text-anchor": "middle" }, place(x));
    }
    draw(svg, "line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: bottom, y2: bottom });
    const clip = `clip${panel.index}`;
    draw(draw(svg, "clipPath", { id: clip }), "rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT, height: bottom + 1 });
    const plot = draw(svg, "g", { "clip-path": `url(#${clip})` });
    for (const c of shown) {
      const stroke = colour(c.index);
      if (c.band[0]) {
        const back = c.x.map((_, i) => c.x.length - 1 - i);
        const edge = (values, order) => order.filter((i) => values[i] !== null && Number.isFinite(fy(values[i])))
          .map((i) => `${fx(c.x[i]).toFixed(1)} ${fy(values[i]).toFixed(1)}`);
        const points = [...edge(c.band[1], c.x.map((_, i) => i)), ...edge(c.band[0], back)];
        draw(plot, "polygon", { class: "band", fill: stroke, points: points.join(" ") });
      }
      if (c.smooth) draw(plot, "path", { class: "raw", stroke, d: path(c, c.raw, fx, fy) });
      const dashes = c.series.evaluated ? {} : c.order > 0 ? { "stroke-dasharray": "5 4" } : {};
      draw(plot, "path", { class: "curve", stroke, d: path(c, c.y, fx, fy), ...dashes });
      if (c.series.evaluated || c.x.length === 1) {
        c.y.forEach((y, i) => {
          if (y !== null && c.x.length < 200) draw(plot, "circle", { cx: fx(c.x[i]), cy: fy(y), r: 3, fill: stroke });
        });
      }
    }
    data.runs.forEach((run, index) => {
      if (state.off.has(index)) return;
      for (const mark of run.marks) {
        const x = mark[state.axis];
        if (x === undefined || x === null || !inside(x)) continue;
        const at = fx(x);
        draw(svg, "path", { class: "mark", d: `M${at - 4} ${bottom + 7}L${at + 4} ${bottom + 7}L${at} ${bottom + 1}Z` });
      }
    });
    panel.frame = { x0, x1, fx, fy, width, height, bottom, shown };
    panel.over = draw(svg, "g", {});
    hover(panel);
  };

  // The cross on all panels, and the values of the one under the pointer.
  const hover = (panel) => {
    if (!panel.frame) return;
    panel.over.replaceChildren();
    const { fx, fy, bottom, shown, x0, x1, height, width } = panel.frame;
    if (panel.drag !== undefined && state.at !== null) {
      const [from, to] = [panel.drag, state.at].sort((a, b) => a - b);
      draw(panel.over, "rect", { class: "select", x: fx(from), y: TOP, width: Math.max(0, fx(to) - fx(from)), height: bottom - TOP });
    }
    if (state.at === null || state.at < x0 || state.at > x1) return;
    draw(panel.over, "line", { class: "cross", x1: fx(state.at), x2: fx(state.at), y1: TOP, y2: bottom });
    for (const c of shown) {
      const i = nearest(c.x, state.at), y = c.y[i];
      if (y === null || !Number.isFinite(fy(y)) || c.x[i] < x0 || c.x[i] > x1) continue;
      draw(panel.over, "circle", { cx: fx(c.x[i]), cy: fy(y), r: 3.5, fill: colour(c.index) });
    }
  };

  const tip = (panel, event) => {
    const box = $("tip"), near = 6 / (panel.frame.width - LEFT - RIGHT) * (panel.frame.x1 - panel.frame.x0);
    box.replaceChildren(html("div", {}, html("b", {}, `${AXES[state.axis]} ${place(state.at)}`)));
    for (const c of panel.frame.shown) {
      const i = nearest(c.x, state.at);
      const many = panel.series.length > 1 ? `, ${c.series.label}` : "";
      const name = html("span", { style: `color:${colour(c.index)}` }, `${c.run.name}${many}`);
      const value = c.smooth ? `${short(c.y[i])} (${short(c.raw[i])})` : short(c.y[i]);
      box.append(html("div", {}, name, html("b", {}, `${value}${c.series.evaluated ? ` at ${place(c.x[i])}` : ""}`)));
    }
    data.runs.forEach((run, index) => {
      for (const mark of state.off.has(index) ? [] : run.marks) {
        if (Math.abs(mark[state.axis] - state.at) <= near) box.append(html("span", { class: "fault" }, `${run.name}, after step ${mark.step}: ${mark.text}`));
      }
    });
    const { offsetWidth: w, offsetHeight: h } = box;
    const x = event.clientX + 16 + w > innerWidth ? event.clientX - 16 - w : event.clientX + 16;
    box.style.left = `${Math.max(4, x)}px`;
    box.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - h - 4))}px`;
    box.style.visibility = "visible";
  };

  const pointed = (panel, event) => {
    const { x0, x1, width } = panel.frame, box = panel.svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) * (width / box.width) - LEFT) / (width - LEFT - RIGHT);
    return x0 + Math.max(0, Math.min(1, share)) * (x1 - x0);
  };

  const listen = (panel) => {
    const move = (event) => {
      if (!panel.frame) return;
      state.at = pointed(panel, event);
      const [first] = panel.frame.shown;
      if (panel.drag === undefined && first) state.at = first.x[nearest(first.x, state.at)];
      panels.forEach(hover);
      tip(panel, event);
    };
    panel.svg.addEventListener("pointermove", move);
    panel.svg.addEventListener("pointerdown", (event) => {
      move(event);
      if (event.pointerType === "mouse") panel.drag = pointed(panel, event);
    });
    panel.svg.addEventListener("pointerup", (event) => {
      if (panel.drag === undefined || !panel.frame) return;
      const [from, to] = [panel.drag, pointed(panel, event)].sort((a, b) => a - b);
      delete panel.drag;
      const { x0, x1 } = panel.frame;
      if (to - from > (x1 - x0) / 50) state.zoom = [from, to];
      all();
    });
    panel.svg.addEventListener("pointerleave", () => {
      state.at = null;
      delete panel.drag;
      $("tip").style.visibility = "hidden";
      panels.forEach(hover);
    });
    panel.svg.addEventListener("dblclick", () => { state.zoom = null; all(); });
  };

  const toggle = (set, key, button) => {
    set.has(key) ? set.delete(key) : set.add(key);
    button.setAttribute("aria-pressed", String(button.dataset.inverse ? set.has(key) : !set.has(key)));
    all();
  };
  const press = (text, on, act, style = "") => {
    const button = html("button", { type: "button", "aria-pressed": String(on), style, onclick: () => act(button) });
    if (style) button.append(html("i"));
    button.append(text);
    return button;
  };

  const panels = data.panels.map((of, index) => {
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", of.title);
    const panel = { ...of, index, svg, wide: index === 0 };
    const switches = html("div", {});
    if (of.series.length > 1) {
      for (const series of of.series) {
        switches.append(press(series.label, true, (button) => toggle(state.hidden, series.key, button)), " ");
      }
    }
    const log = press("log", false, (button) => toggle(state.log, of.title, button));
    log.dataset.inverse = "yes";
    switches.append(log);
    $("panels").append(html("section", { class: panel.wide ? "panel wide" : "panel" },
      html("header", {}, html("h2", {}, of.title), switches), svg));
    listen(panel);
    return panel;
  });

  const all = () => panels.forEach(render);

  const controls = $("controls"), axes = html("div", { role: "group", "aria-label": "axis" });
  for (const axis of Object.keys(AXES)) {
    if (!data.runs.every((run) => run.steps.at[axis])) continue;
    const button = press(AXES[axis], axis === state.axis, () => {
      state.axis = axis;
      state.zoom = null;
      for (const other of axes.children) other.setAttribute("aria-pressed", String(other === button));
      all();
    });
    axes.append(button);
  }
  const runs = html("div", { role: "group", "aria-label": "runs" });
  if (data.runs.length > 1) {
    data.runs.forEach((run, index) => {
      runs.append(press(run.name, true, (button) => toggle(state.off, index, button), `color:${colour(index)}`));
    });
  }
  const slider = html("input", { type: "range", min: "0", max: "99", value: "0", "aria-label": "smoothing",
    oninput: () => { state.smooth = slider.value / 100; all(); } });
  const whole = html("button", { type: "button", onclick: () => { state.zoom = null; all(); } }, "all");
  if (data.runs.length > 1) controls.append(runs);
  controls.append(axes, html("label", {}, "smooth", slider), whole);
  const most = Math.max(0, ...data.runs.map((run) => run.steps.at.step.length));
  if (most > 60) { slider.value = "80"; state.smooth = 0.8; }

  addEventListener("resize", all);
  all();
})();
