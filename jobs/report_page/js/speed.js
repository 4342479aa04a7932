{
  const { element, svg, duration } = Report;
  const HEIGHT = 220;
  const MARGIN = { left: 48, right: 12, top: 10, bottom: 26 };

  const UNITS = [[3600, "h"], [60, "min"], [1, "s"]];

  const perSecond = (rate) => (rate >= 100 ? Report.count(Math.round(rate)) : rate.toFixed(1));

  function chart(speed, width) {
    const top = Math.max(...speed.rates, 1e-9);
    const x = d3.scaleLinear([0, speed.seconds], [MARGIN.left, width - MARGIN.right]);
    const y = d3.scaleLinear([0, top], [HEIGHT - MARGIN.bottom, MARGIN.top]).nice();
    const steps = [...speed.rates, speed.rates.at(-1)];
    const end = (i) => x(Math.min(i * speed.width, speed.seconds));
    const shape = d3.area().x((_, i) => end(i)).y0(y(0)).y1(y).curve(d3.curveStepAfter);
    const edge = d3.line().x((_, i) => end(i)).y(y).curve(d3.curveStepAfter);
    const marks = speed.marks.map(([time, text]) =>
      svg("line",
        { class: text === "started again" ? "again" : "event", x1: x(time), x2: x(time),
          y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom },
        svg("title", {}, `${duration(time)}: ${text}`)));
    const mean = speed.images / speed.seconds;
    const picture = svg(
      "svg",
      { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
        "aria-label": `Images per second over ${duration(speed.seconds)}: ` +
          `${perSecond(mean)} on average, ${perSecond(top)} at most` },
      svg("path", { class: "rate", d: shape(steps) }),
      svg("path", { class: "top-line", d: edge(steps) }),
      ...marks,
    );
    const axis = (at, kind) =>
      d3.select(picture).append("g").attr("class", "axis").attr("aria-hidden", "true")
        .attr("transform", at).call(kind);
    const [unit, name] = UNITS.find(([seconds]) => speed.seconds >= 1.5 * seconds) ?? UNITS.at(-1);
    const round = d3.scaleLinear([0, speed.seconds / unit], x.range());
    axis(`translate(0,${HEIGHT - MARGIN.bottom})`,
      d3.axisBottom(round).ticks(Math.ceil(width / 110)).tickFormat((n) => `${n} ${name}`)
        .tickSizeOuter(0));
    axis(`translate(${MARGIN.left},0)`, d3.axisLeft(y).ticks(4).tickSizeOuter(0));
    return picture;
  }

  /** The chart, drawn again whenever its width changes: its text keeps its size. */
  function fitted(speed) {
    const frame = element("div", { class: "chart-frame" }, chart(speed, 900));
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width) frame.replaceChildren(chart(speed, Math.round(contentRect.width)));
    }).observe(frame);
    return frame;
  }

  function table(label, head, rows, numbers) {
    const cell = (name, i, tag) =>
      element(tag, { scope: tag === "th" ? "col" : null, class: numbers.includes(i) ? "number" : null }, name);
    return element(
      "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
      element("table", { class: "bars" },
        element("thead", {}, element("tr", {}, ...head.map((name, i) => cell(name, i, "th")))),
        element("tbody", {}, ...rows.map((row) =>
          element("tr", {}, ...row.map((value, i) => cell(value, i, "td")))))),
    );
  }

  function spark(rates, top) {
    const x = d3.scaleLinear([0, rates.length], [0, 120]);
    const y = d3.scaleLinear([0, top], [20, 1]);
    const d = d3.area().x((_, i) => x(i)).y0(20).y1(y).curve(d3.curveStepAfter)([...rates, rates.at(-1)]);
    return svg("svg", { class: "spark", viewBox: "0 0 120 20", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("path", { d }));
  }

  function actors(speed) {
    const top = Math.max(...speed.actors.flatMap((actor) => actor.rates), 1e-9);
    const rows = speed.actors.map((actor) => [
      `${actor.host}, ${actor.pid}`, Report.count(actor.images), perSecond(actor.rate),
      actor.memory ? `${(actor.memory / 1e9).toFixed(1)} GB` : "", spark(actor.rates, top),
    ]);
    return table("Actors", ["Actor: host, process", "Images", "Images/s", "Memory", "Over time"], rows, [1, 2, 3]);
  }

  function stages(speed) {
    const all = Object.entries(speed.stages);
    const top = Math.max(...all.map(([, seconds]) => seconds), 1e-9);
    const meter = (seconds) =>
      svg("svg", { class: "meter", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { width: (100 * seconds) / top, height: 4 }));
    const rows = all.map(([name, seconds]) => [name, duration(seconds), meter(seconds)]);
    return table("Stages", ["Stage", "Time, all actors", ""], rows, [1]);
  }

  function starts(speed) {
    const ends = (start) =>
      start.stopped ? `stopped: ${start.stopped}` : start.finished ? "ended" : "no end in its log: running, or killed";
    const line = (start) => {
      const when = new Date(start.begin * 1000).toISOString().slice(0, 16).replace("T", " ");
      return element("li", {}, `${when} UTC, ${duration(start.seconds)}, ${ends(start)}`);
    };
    const events = speed.marks.map(([time, text]) => element("li", {}, `${duration(time)}: ${text}`));
    const more = speed.marks_left_out ? [element("li", {}, `and ${speed.marks_left_out} more`)] : [];
    return [
      element("h3", {}, "Starts"), element("ul", {}, ...speed.starts.map(line)),
      ...(events.length ? [element("h3", {}, "Events"), element("ul", {}, ...events, ...more)] : []),
    ];
  }

  Report.speed = (root) => {
    const { speed } = Report.data;
    if (!speed) return;
    const bad = speed.bad_lines
      ? element("p", { class: "muted" }, `${Report.count(speed.bad_lines)} lines of the logs could not be read.`) : null;
    const left = speed.actors_left_out
      ? element("p", { class: "muted" }, `And ${Report.count(speed.actors_left_out)} more actors.`) : null;
    root.replaceChildren(
      element("p", { class: "muted" }, "Images per second, from the logs of the run" +
        (speed.starts.length > 1 ? "; its starts are laid end to end, without the time between." : ".")),
      fitted(speed),
      element("h3", {}, "By actor"), actors(speed), ...(left ? [left] : []),
      element("h3", {}, "By stage"), stages(speed),
      ...starts(speed), ...(bad ? [bad] : []),
    );
  };
}
