"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const space = document.querySelector("svg").namespaceURI;
  const one = data.runs.length === 1;
  // Of one run, its figures have colours; of several, the runs, and their figures are told apart by their lines.
  const colour = (run, order = 0) => `var(--c${(one ? order : run) % 8})`;
  const dashes = (series, order) => (one || series.evaluated || order === 0 ? {} : { "stroke-dasharray": "5 4" });
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
    const [first, last] = [Math.ceil(low / step), Math.floor(high / step + 1e-9)];
    for (let i = first; i <= last && found.length < 50; i += 1) found.push(i * step);
    return found;
  };

  // A mean over neighbours that weighs nearer ones more, as many before as behind, and skips gaps.
  const smoothed = (values, keep) => {
    if (keep === 0) return values;
    const share = 1 - keep, sums = values.map(() => [0, 0]);
    const pass = (order) => {
      let sum = 0, weight = 0;
      for (const i of order) {
        sums[i][0] += sum;
        sums[i][1] += weight;
        const there = values[i] !== null;
        sum = keep * (sum + (there ? share * values[i] : 0));
        weight = keep * (weight + (there ? share : 0));
      }
    };
    const order = values.map((_, i) => i);
    pass(order);
    pass(order.reverse());
    return values.map((value, i) => (value === null ? null : (sums[i][0] + share * value) / (sums[i][1] + share)));
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
        const of = table(run, series), x = of.at[state.axis], raw = Object.hasOwn(of.of, series.key) && of.of[series.key];
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

  // All values but a few that stand far out; what is drawn smoothly need not make room for them.
  const most = (values) => {
    const sorted = [...values].sort((a, b) => a - b), cut = Math.ceil(sorted.length / 50);
    return sorted.slice(cut, sorted.length - cut);
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
      const within = (list) => list.filter((value, i) => value !== null && inside(c.x[i]));
      const band = c.band[0] ? c.band.flatMap((edge) => most(within(edge))) : [];
      return [...within(c.y), ...(c.smooth ? most(within(c.raw)) : []), ...band];
    });
    let [low, high] = extent(log ? seen.filter((v) => v > 0) : seen);
    if (low > high) {
      draw(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to show");
      panel.frame = null;
      return;
    }
    if (log) [low, high] = [Math.log10(low), Math.log10(high)];
    // What differs by rounding alone is one value.
    const size = Math.max(Math.abs(low), Math.abs(high)), span = high - low > 1e-9 * size ? high - low : size;
    const room = (span || 1) * 0.06;
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
    draw(draw(svg, "clipPath", { id: clip }), "rect", { x: LEFT - 4, y: 0, width: width - LEFT - RIGHT + 8, height: bottom + 1 });
    const plot = draw(svg, "g", { "clip-path": `url(#${clip})` });
    for (const c of shown) {
      const stroke = colour(c.index, c.order);
      if (c.band[0]) {
        const back = c.x.map((_, i) => c.x.length - 1 - i);
        const edge = (values, order) => order.filter((i) => values[i] !== null && Number.isFinite(fy(values[i])))
          .map((i) => `${fx(c.x[i]).toFixed(1)} ${fy(values[i]).toFixed(1)}`);
        const points = [...edge(c.band[1], c.x.map((_, i) => i)), ...edge(c.band[0], back)];
        draw(plot, "polygon", { class: "band", fill: stroke, points: points.join(" ") });
      }
      if (c.smooth) draw(plot, "path", { class: "raw", stroke, d: path(c, c.raw, fx, fy) });
      draw(plot, "path", { class: "curve", stroke, d: path(c, c.y, fx, fy), ...dashes(c.series, c.order) });
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
      draw(panel.over, "circle", { cx: fx(c.x[i]), cy: fy(y), r: 3.5, fill: colour(c.index, c.order) });
    }
  };

  const tip = (panel, event) => {
    const box = $("tip"), near = 6 / (panel.frame.width - LEFT - RIGHT) * (panel.frame.x1 - panel.frame.x0);
    box.replaceChildren(html("div", {}, html("b", {}, `${AXES[state.axis]} ${place(state.at)}`)));
    for (const c of panel.frame.shown) {
      const i = nearest(c.x, state.at);
      const many = panel.series.length > 1 ? `, ${c.series.label}` : "";
      const name = html("span", { style: `color:${colour(c.index, c.order)}` }, one ? c.series.label : `${c.run.name}${many}`);
      const value = c.smooth ? `${short(c.y[i])} (${short(c.raw[i])})` : short(c.y[i]);
      box.append(html("div", {}, name, html("b", {}, `${value}${c.series.evaluated ? ` at ${place(c.x[i])}` : ""}`)));
    }
    data.runs.forEach((run, index) => {
      for (const mark of state.off.has(index) ? [] : run.marks) {
        if (Math.abs(mark[state.axis] - state.at) <= near) box.append(html("span", { class: "fault" }, `${one ? "" : `${run.name}, `}after step ${mark.step}: ${mark.text}`));
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
  const press = (content, on, act, attributes = {}) => {
    const button = html("button", { type: "button", "aria-pressed": String(on), onclick: () => act(button), ...attributes });
    button.append(...content);
    return button;
  };

  // How a figure is drawn.
  const line = (series, order) => {
    const svg = document.createElementNS(space, "svg"), stroke = one ? colour(0, order) : "currentColor";
    svg.setAttribute("viewBox", "0 0 18 8");
    draw(svg, "path", { class: "curve", stroke, d: "M0 4H18", ...dashes(series, order) });
    if (series.evaluated) draw(svg, "circle", { cx: 9, cy: 4, r: 3, fill: stroke });
    return svg;
  };
  const last = (series) => {
    const values = one && table(data.runs[0], series).of[series.key];
    return values ? short(values.findLast((value) => value !== null) ?? null) : "";
  };
  // Whether a logarithmic axis would show something else.
  const wide = (of) => {
    const values = of.series.flatMap((series) => data.runs.flatMap((run) => table(run, series).of[series.key] || []));
    const [low, high] = extent(values.filter((value) => value !== 0));
    return low > 0 && high >= 4 * low;
  };

  const panels = data.panels.map((of, index) => {
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", of.title);
    const panel = { ...of, index, svg, wide: index === 0 };
    const switches = html("div", {}), title = html("h2", {}, of.title);
    if (of.series.length > 1) {
      of.series.forEach((series, order) => {
        const content = [line(series, order), series.label, html("b", {}, last(series))];
        switches.append(press(content, true, (button) => toggle(state.hidden, series.key, button)));
      });
    } else if (one) {
      title.append(html("small", {}, last(of.series[0])));
    }
    if (index === 0 || wide(of)) {
      switches.append(press(["log"], false, (button) => toggle(state.log, of.title, button), { class: "plain", "data-inverse": "yes" }));
    }
    $("panels").append(html("section", { class: panel.wide ? "panel wide" : "panel" },
      html("header", {}, title, switches), svg));
    listen(panel);
    return panel;
  });

  const all = () => {
    panels.forEach(render);
    whole.hidden = !state.zoom;
  };

  const controls = $("controls"), axes = html("div", { role: "group", "aria-label": "axis" });
  for (const axis of Object.keys(AXES)) {
    if (!data.runs.every((run) => run.steps.at[axis])) continue;
    const button = press([AXES[axis]], axis === state.axis, () => {
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
      const content = [html("i"), run.name];
      runs.append(press(content, true, (button) => toggle(state.off, index, button), { style: `--own:${colour(index)}` }));
    });
  }
  const slider = html("input", { type: "range", min: "0", max: "99", value: "0", "aria-label": "smoothing",
    oninput: () => { smooth(slider.value); all(); } });
  const share = html("output", {});
  const smooth = (percent) => {
    slider.value = percent;
    state.smooth = percent / 100;
    share.textContent = percent > 0 ? `${percent} %` : "off";
  };
  const whole = html("button", { type: "button", onclick: () => { state.zoom = null; all(); } }, "the whole run");
  if (!one) controls.append(runs);
  controls.append(axes, html("label", {}, "smoothing", slider, share), whole);
  const rows = Math.max(0, ...data.runs.map((run) => run.steps.at.step.length));
  smooth(rows > 300 ? 90 : rows > 40 ? 70 : 0);

  addEventListener("resize", all);
  all();
})();
