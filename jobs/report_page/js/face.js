{
  // One face: its picture, or a drawing of its parts; landmarks above; the name of a part on hover.
  const { element, svg } = Report;
  const CROP = 224;
  const MAP = 112;
  const FRACTION = 16;
  const COLORS = [
    "#f2b134", "#ef6f3c", "#b58cff", "#7a6cf0", "#43c59e", "#ff6b9a", "#d93a6f", "#6fa8dc",
  ];
  // Lines of the 68 points of 300W: first, last, closed.
  const LINES_68 = [
    [0, 16], [17, 21], [22, 26], [27, 30], [31, 35], [36, 41, true], [42, 47, true],
    [48, 59, true], [60, 67, true],
  ];

  const color = (label) => COLORS[(label - 1) % COLORS.length];

  function labelMap(face) {
    if (face.map === undefined && face.labels !== null) {
      const pairs = Report.bytes(face.labels);
      face.map = new Uint8Array(MAP * MAP);
      for (let i = 0, at = 0; i < pairs.length; i += 2) {
        face.map.fill(pairs[i], at, at + pairs[i + 1]);
        at += pairs[i + 1];
      }
    }
    return face.map;
  }

  /** Share of the crop that each part covers, by label. */
  function areas(face) {
    const found = new Array(Report.data.parts.length + 1).fill(0);
    for (const label of labelMap(face) ?? []) found[label] += 1 / (MAP * MAP);
    return found;
  }

  function points(face, name) {
    const packed = Report.shorts(face.landmarks[name]);
    const found = [];
    // Half a pixel: a landmark at 3 lies in the middle of the fourth pixel.
    for (let i = 0; i < packed.length; i += 2) {
      found.push([packed[i] / FRACTION + 0.5, packed[i + 1] / FRACTION + 0.5]);
    }
    return found;
  }

  function outline(face, name) {
    const all = points(face, name).map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
    if (name !== "68") return all.map((point) => `M${point}h0`).join("");
    const line = ([first, last, closed]) =>
      `M${all.slice(first, last + 1).join("L")}${closed ? "Z" : ""}`;
    return LINES_68.map(line).join("");
  }

  class FacePicture {
    constructor(face) {
      this.face = face;
      this.marked = 0;
      this.tinted = false;
      this.canvas = element("canvas", { width: MAP, height: MAP, "aria-hidden": "true" });
      this.lines = svg("svg", { viewBox: `0 0 ${CROP} ${CROP}`, "aria-hidden": "true" });
      this.name = element("span", { class: "partname" });
      const image = face.picture
        ? element("img", { src: face.picture, alt: "", loading: "lazy", decoding: "async" })
        : null;
      this.root = element(
        "span", { class: "picture", "data-source": face.source },
        image, this.canvas, this.lines, this.name,
      );
      this.root.addEventListener("pointermove", (event) => this.mark(this.labelAt(event)));
      this.root.addEventListener("pointerleave", () => this.mark(0));
      if (!face.picture) this.paint();
    }

    landmarks(name) {
      this.lines.replaceChildren();
      if (!name || !(name in this.face.landmarks)) return;
      const d = outline(this.face, name);
      const wide = name === "68" ? 1.6 : 3.2;
      this.lines.append(
        svg("path", { class: "rim", d, "stroke-width": wide + 1.6 }),
        svg("path", { class: "points", d, "stroke-width": wide }),
      );
    }

    tint(on) {
      this.tinted = on;
      this.paint();
    }

    /** Shows one part by its label, 0 for none. */
    mark(label) {
      if (label === this.marked) return;
      this.marked = label;
      this.name.textContent = label ? Report.plainPart(Report.data.parts[label - 1]) : "";
      this.paint();
    }

    labelAt(event) {
      const map = labelMap(this.face);
      if (!map) return 0;
      const box = this.root.getBoundingClientRect();
      const cell = (at, start, size) =>
        Math.min(MAP - 1, Math.max(0, Math.floor(((at - start) / size) * MAP)));
      const x = cell(event.clientX, box.left, box.width);
      return map[cell(event.clientY, box.top, box.height) * MAP + x];
    }

    paint() {
      const context = this.canvas.getContext("2d");
      context.clearRect(0, 0, MAP, MAP);
      const drawing = !this.face.picture;
      const map = labelMap(this.face);
      if (!map || !(this.marked || this.tinted || drawing)) return;
      const pixels = context.createImageData(MAP, MAP);
      const rgb = Report.data.parts.map((_, i) => parseInt(color(i + 1).slice(1), 16));
      map.forEach((label, i) => {
        if (!label) return;
        const strong = label === this.marked;
        const opacity = strong ? 190 : drawing ? 150 : this.tinted ? 95 : 0;
        const value = rgb[label - 1];
        pixels.data.set([value >> 16, (value >> 8) & 255, value & 255, opacity], i * 4);
      });
      context.putImageData(pixels, 0, 0);
    }
  }

  Report.FacePicture = FacePicture;
  Report.areas = areas;
  Report.partColor = color;
}
