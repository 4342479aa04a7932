{
  const { element, svg, filter, value } = Report;
  const WIDTH = 320;
  const HEIGHT = 118;
  const MARGIN = { left: 34, right: 8, top: 8, bottom: 20 };
  const GRIP = 7; // how near to an edge of the brush a pointer takes hold of it, in SVG units

  const short = (count) => (count < 1000 ? (Number.isInteger(count) ? count : "") : `${count / 1000}k`);

  function quantiles(values) {
    const known = values.filter((x) => !Number.isNaN(x)).sort();
    const at = (q) => known[Math.round(q * (known.length - 1))];
    return { known: known.length, low: at(0.05), median: at(0.5), high: at(0.95) };
  }

  function summary(variable, { known, low, median, high }, missing) {
    const range = `median ${value(median, variable)}; 90 % lie between ${value(low, variable)} and `;
    const without = missing ? `; ${Report.count(missing)} have none` : "";
    return `${Report.count(known)} faces, ${range}${value(high, variable)}${without}`;
  }

  class Histogram {
    constructor(variable, v) {
      this.variable = variable;
      this.v = v;
      this.end = variable.low + variable.step * variable.bins;
      this.x = d3.scaleLinear([variable.low, this.end], [MARGIN.left, WIDTH - MARGIN.right]);
      const all = filter.totals(v);
      this.y = d3.scaleLinear([0, Math.max(1, ...all)], [HEIGHT - MARGIN.bottom, MARGIN.top]);
      const about = quantiles(filter.columns[v]);
      this.summary = summary(variable, about, Report.data.sampled - about.known);
      this.draw(all);
      this.root = this.build();
      this.listen();
    }

    /** A staircase of counts. */
    path(counts) {
      const steps = [...counts, counts[counts.length - 1]];
      return d3
        .area()
        .x((_, i) => this.x(this.variable.low + i * this.variable.step))
        .y0(this.y(0))
        .y1((n) => this.y(n))
        .curve(d3.curveStepAfter)(steps);
    }

    draw(all) {
      this.matching = svg("path", { class: "matching" });
      this.chosen = svg("rect", {
        class: "chosen", y: MARGIN.top, height: HEIGHT - MARGIN.top - MARGIN.bottom, hidden: true,
      });
      this.picture = svg(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
          "aria-label": `Histogram of ${this.variable.label}: ${this.summary}` },
        svg("rect", { width: WIDTH, height: HEIGHT, fill: "none", "pointer-events": "all" }),
        svg("path", { class: "all", d: this.path(all) }),
        this.matching,
        this.doubtful(),
        this.chosen,
      );
      const bottom = d3.axisBottom(this.x).ticks(5).tickSizeOuter(0);
      const left = d3.axisLeft(this.y).ticks(2).tickFormat(short).tickSizeOuter(0);
      const place = (x, y, axis) =>
        d3.select(this.picture).append("g").attr("class", "axis").attr("aria-hidden", "true")
          .attr("transform", `translate(${x},${y})`).call(axis);
      place(0, HEIGHT - MARGIN.bottom, bottom);
      place(MARGIN.left, 0, left);
    }

    doubtful() {
      const at = this.variable.doubtful;
      if (at === null || at <= this.variable.low || at >= this.end) return null;
      const x = this.x(at);
      const line = { class: "doubtful", x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom };
      return svg("line", line, svg("title", {}, "beyond this a label is worth a look"));
    }

    build() {
      const { label, unit, hint, step } = this.variable;
      const input = (end) =>
        element("input", {
          type: "number", step, inputmode: "decimal", placeholder: "any",
          "aria-label": `${label}, ${end}${unit ? ` (${unit})` : ""}`,
          oninput: () => this.typed(),
        });
      this.from = input("from");
      this.to = input("to");
      this.reset = element("button", {
        type: "button", hidden: true, "aria-label": `Clear the filter on ${label}`,
        onclick: () => { filter.set(this.v); this.from.focus(); },
      }, "Clear");
      return element(
        "fieldset", { class: "histogram", "data-variable": this.variable.name },
        element("legend", {}, label, unit ? element("span", { class: "unit" }, ` ${unit}`) : null),
        element("p", { class: "hint" }, hint),
        this.picture,
        element("div", { class: "limits" }, this.from, "to", this.to, this.reset),
      );
    }

    typed() {
      const number = (input) => (input.value === "" ? undefined : Number(input.value));
      filter.set(this.v, number(this.from), number(this.to));
    }

    listen() {
      let drag = null;
      const picture = this.picture;
      picture.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        picture.setPointerCapture(event.pointerId);
        drag = this.begin(this.at(event));
      });
      picture.addEventListener("pointermove", (event) => {
        const position = this.at(event);
        if (drag) this.brush(drag, position);
        else this.showHandle(position);
      });
      picture.addEventListener("pointerup", () => {
        if (drag && !drag.moved) filter.set(this.v);
        drag = null;
      });
      // The browser takes the pointer away when a finger begins to scroll the page.
      picture.addEventListener("pointercancel", () => {
        if (drag) filter.set(this.v, ...drag.before);
        drag = null;
      });
    }

    /** Where a pointer is, in SVG units. */
    at(event) {
      const box = this.picture.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * WIDTH;
    }

    /** The ends of the brush in SVG units; those without a limit lie at the ends of the axis. */
    edges() {
      const [low, high] = filter.limits[this.v];
      const inside = (x) => Math.min(this.end, Math.max(this.variable.low, x));
      return [this.x(inside(low)), this.x(inside(high))];
    }

    begin(position) {
      const before = filter.limits[this.v];
      const [left, right] = this.edges();
      const drag = { before, start: position, left: position, right: position, kind: "new" };
      if (!filter.isActive(before)) return drag;
      if (Math.abs(position - left) < GRIP) return { ...drag, kind: "new", start: right };
      if (Math.abs(position - right) < GRIP) return { ...drag, kind: "new", start: left };
      if (position > left && position < right) return { ...drag, kind: "move", left, right };
      return drag;
    }

    brush(drag, position) {
      if (!drag.moved && Math.abs(position - drag.left) < 3 && drag.kind === "new") return;
      drag.moved = true;
      const { low, step, bins } = this.variable;
      const bin = (x) => Math.round((this.x.invert(x) - low) / step);
      let [first, last] = [bin(drag.start), bin(position)].sort((a, b) => a - b);
      if (drag.kind === "move") {
        const width = bin(drag.right) - bin(drag.left);
        first = Math.min(bins - width, Math.max(0, bin(drag.left + position - drag.start)));
        last = first + width;
      } else if (first === last) last += 1;
      // The outermost bins hold all that lies beyond, so there is no limit on that side.
      const edge = (n) => Number((low + n * step).toPrecision(12));
      filter.set(this.v, first > 0 ? edge(first) : undefined, last < bins ? edge(last) : undefined);
    }

    showHandle(position) {
      const [left, right] = this.edges();
      const active = filter.isActive(filter.limits[this.v]);
      const near = Math.min(Math.abs(position - left), Math.abs(position - right)) < GRIP;
      const inside = position > left && position < right;
      const cursor = near ? "ew-resize" : inside ? "grab" : "crosshair";
      this.picture.style.cursor = active ? cursor : "crosshair";
    }

    update() {
      const [low, high] = filter.limits[this.v];
      const active = filter.isActive([low, high]);
      this.matching.setAttribute("d", this.path(filter.counts(this.v, true)));
      const [left, right] = this.edges();
      this.chosen.toggleAttribute("hidden", !active);
      this.chosen.setAttribute("x", left);
      this.chosen.setAttribute("width", Math.max(1, right - left));
      this.reset.hidden = !active;
      const show = (input, limit) => {
        const text = Number.isFinite(limit) ? String(limit) : "";
        if (input.value !== text && document.activeElement !== input) input.value = text;
      };
      show(this.from, low);
      show(this.to, high);
    }
  }

  Report.histograms = (root) => {
    const all = Report.data.variables.map((variable, v) => new Histogram(variable, v));
    root.append(...all.map((histogram) => histogram.root));
    const update = () => all.forEach((histogram) => histogram.update());
    filter.onChange(update);
    update();
  };
}
