{
  const { element, filter, data } = Report;
  const PAGE = 60;
  const index = (name) => data.variables.findIndex((variable) => variable.name === name);
  const fit = index(data.fit);
  // A large misfit is bad; of the visible share, which stands in for it, a small one.
  const worseIsLarger = data.fit === "quality_points" ? 1 : -1;

  const FIT_NAME = data.fit === "quality_points" ? "misfit" : "visible";

  const known = (face, v) => face.values[v] !== null && face.values[v] !== undefined;

  /** Faces without the value come last, whichever way it goes. */
  function by(v, sign, key = (value) => value) {
    return (a, b) => {
      if (!known(a, v) || !known(b, v)) return known(b, v) - known(a, v);
      return sign * (key(a.values[v]) - key(b.values[v]));
    };
  }

  const ORDERS = [
    ["worst fit first", by(fit, -worseIsLarger), fit],
    ["best fit first", by(fit, worseIsLarger), fit],
    ["largest turn of the head first", by(index("yaw"), -1, Math.abs), index("yaw")],
    ["smallest face first", by(index("size"), 1), index("size")],
    ["largest face first", by(index("size"), -1), index("size")],
    ["by name", (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : a.face - b.face), 0],
  ].filter(([, , v]) => v >= 0);

  function caption(face) {
    const text = (v) => (v >= 0 && known(face, v) ? Report.withUnit(face.values[v], data.variables[v]) : null);
    const mark = face.worst ? "worst" : face.best ? "best" : null;
    const yaw = text(index("yaw"));
    const value = text(fit);
    return element(
      "span", { class: "caption" },
      element("span", {}, yaw === null ? "" : `yaw ${yaw}`),
      element("span", mark ? { class: `mark ${mark}`, title: `among the ${mark}` } : {},
        value === null ? "" : `${FIT_NAME} ${value.replace(" iod", "")}`),
    );
  }

  function spoken(face) {
    const values = data.variables
      .map((variable, v) => (known(face, v) ? `${variable.label} ${Report.withUnit(face.values[v], variable)}` : null))
      .filter(Boolean);
    const mark = face.worst ? ", among the worst" : face.best ? ", among the best" : "";
    return `${Report.called(face)}${mark}: ${values.slice(0, 3).join(", ")}`;
  }

  class Gallery {
    constructor(root) {
      this.root = root;
      this.order = document.getElementById("order");
      this.sets = document.getElementById("landmarks");
      this.tint = document.getElementById("tint");
      this.more = document.getElementById("more");
      this.limit = PAGE;
      this.tiles = new Map();
      this.faces = [];
      this.fill();
      root.addEventListener("keydown", (event) => this.key(event));
      filter.onChange(() => { this.limit = PAGE; this.show(); });
      this.show();
    }

    fill() {
      this.order.append(...ORDERS.map(([name], i) => element("option", { value: i }, name)));
      const sets = [...new Set(data.faces.flatMap((face) => Object.keys(face.landmarks)))];
      const named = (name) => element("option", { value: name }, name.replace("_", " "));
      this.sets.append(element("option", { value: "" }, "none"), ...sets.map(named));
      this.sets.value = sets[0] ?? "";
      this.order.addEventListener("change", () => { this.limit = PAGE; this.show(); });
      this.sets.addEventListener("change", () => this.restyle());
      this.tint.addEventListener("change", () => this.restyle());
      this.more.addEventListener("click", () => {
        const next = this.limit;
        this.limit += PAGE;
        this.show();
        this.focus(next);
      });
    }

    tile(face) {
      if (!this.tiles.has(face)) {
        const picture = new Report.FacePicture(face);
        const button = element(
          "button",
          { type: "button", class: "tile", tabindex: "-1", "aria-label": spoken(face),
            onclick: () => Report.detail.open(this.faces, this.faces.indexOf(face)),
            onfocus: () => this.become(button) },
          picture.root, caption(face),
        );
        const tile = { picture, button, item: element("li", {}, button) };
        this.tiles.set(face, tile);
        this.style(tile);
      }
      return this.tiles.get(face);
    }

    style({ picture }) {
      picture.landmarks(this.sets.value);
      picture.tint(this.tint.checked);
    }

    restyle() {
      this.tiles.forEach((tile) => this.style(tile));
    }

    show() {
      const [, compare] = ORDERS[this.order.value || 0];
      this.faces = data.faces.filter((face) => filter.passes(face.values)).sort(compare);
      const shown = this.faces.slice(0, this.limit);
      this.root.replaceChildren(...shown.map((face) => this.tile(face).item));
      const first = this.root.querySelector(".tile");
      if (first) this.become(first);
      this.more.hidden = this.faces.length <= this.limit;
      document.getElementById("shown").textContent = this.said(shown.length);
    }

    said(shown) {
      const pictured = this.faces.length;
      if (!pictured) {
        return filter.matching()
          ? "None of the faces that match has a picture here; --gallery gives more of them one."
          : "No face matches.";
      }
      const all = data.faces.length;
      const some = shown < pictured ? `${Report.count(shown)} of ` : "";
      const of = pictured < all ? ` of the ${Report.count(all)} with a picture` : " with a picture";
      return `${some}${Report.count(pictured)}${of}`;
    }

    /** One tile is in the tab order; arrow keys move among the others. */
    become(button) {
      this.root.querySelector('.tile[tabindex="0"]')?.setAttribute("tabindex", "-1");
      button.setAttribute("tabindex", "0");
    }

    focus(number) {
      const buttons = this.root.querySelectorAll(".tile");
      buttons[Math.min(buttons.length - 1, Math.max(0, number))]?.focus();
    }

    key(event) {
      const buttons = [...this.root.querySelectorAll(".tile")];
      const now = buttons.indexOf(document.activeElement);
      if (now < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
      const top = buttons[0].offsetTop;
      const columns = buttons.filter((button) => button.offsetTop === top).length;
      const to = {
        ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: buttons.length - 1,
        ArrowDown: now + columns < buttons.length ? now + columns : now,
        ArrowUp: now >= columns ? now - columns : now,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.focus(to);
    }
  }

  Report.gallery = (root) => new Gallery(root);
}
