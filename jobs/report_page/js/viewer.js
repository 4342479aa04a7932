{
  // A face in 3D. It is drawn when something changes, never in a loop.
  const { element, data } = Report;
  const FIELD_OF_VIEW = 12.6; // that of the crops
  const VIEWS = [["Front", 0], ["From the left", 60], ["From the right", -60], ["Profile", 90]];
  const STEP = Math.PI / 24;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  function shapeMaterial() {
    return new THREE.MeshLambertMaterial({ color: 0xc4c8cf, side: THREE.DoubleSide });
  }

  class Viewer {
    constructor(root) {
      this.canvas = element("canvas", {
        class: "stage3d", tabindex: "0", role: "img",
        "aria-label": "Face in 3D. Arrow keys turn it, plus and minus change the size, 0 shows the front.",
      });
      this.title = element("p", { class: "muted", role: "status" });
      this.buttons = [];
      root.replaceChildren(this.chooser(), this.canvas, this.toolbar(), this.title);
    }

    chooser() {
      const named = (mesh, i) => element("option", { value: i }, Report.called(mesh));
      this.select = element("select", { onchange: () => this.load(Number(this.select.value)) },
        ...data.meshes.map(named));
      const several = data.meshes.length > 1;
      return element("div", { class: "controls" }, several ? element("label", {}, "Face ", this.select) : null);
    }

    toolbar() {
      const button = (text, onclick, pressed = null) =>
        element("button", { type: "button", onclick, "aria-pressed": pressed }, text);
      this.shaded = button("Shape only", () => this.shade(this.shaded.getAttribute("aria-pressed") !== "true"), "false");
      this.wired = button("Triangles", () => this.wire(this.wired.getAttribute("aria-pressed") !== "true"), "false");
      return element("div", { class: "controls" },
        ...VIEWS.map(([text, degrees]) => button(text, () => this.turnTo(degrees))),
        this.shaded, this.wired, button("Save as GLB", () => this.save()));
    }

    /** Raises where there is no WebGL. */
    start() {
      this.renderer = new THREE.WebGLRenderer({ canvas: this.canvas, antialias: true, alpha: true });
      // Colours are the photograph's own display values, not linear light: they pass as they are.
      this.renderer.outputColorSpace = "srgb-linear";
      this.scene = new THREE.Scene();
      this.camera = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.1, 100);
      this.lamp = new THREE.DirectionalLight(0xffffff, 2.2);
      this.scene.add(new THREE.AmbientLight(0xffffff, 0.9), this.lamp);
      this.controls = new THREE.OrbitControls(this.camera, this.canvas);
      this.controls.enablePan = false;
      this.controls.enableZoom = false; // the wheel scrolls the page
      this.controls.addEventListener("change", () => this.draw());
      this.canvas.style.touchAction = "pan-y";
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.resize()).observe(this.canvas);
      this.load(0);
    }

    load(number) {
      this.current = number;
      this.select.value = number;
      const mesh = data.meshes[number];
      this.bytes = Report.bytes(mesh.glb);
      new THREE.GLTFLoader().parse(this.bytes.buffer, "", (gltf) => this.place(gltf.scene, mesh),
        (error) => this.failed(error));
    }

    place(scene, mesh) {
      this.face?.removeFromParent();
      this.face = scene;
      scene.traverse((part) => {
        if (!part.isMesh) return;
        part.geometry.computeVertexNormals();
        this.coloured = new THREE.MeshBasicMaterial({ vertexColors: true, side: THREE.DoubleSide });
        this.plain = shapeMaterial();
        part.material = this.coloured;
        this.part = part;
      });
      const box = new THREE.Box3().setFromObject(scene);
      scene.position.sub(box.getCenter(new THREE.Vector3()));
      this.size = box.getSize(new THREE.Vector3());
      this.scene.add(scene);
      this.title.textContent = `${Report.called(mesh)}: ${Report.count(mesh.vertices)} vertices, ` +
        `${Report.count(mesh.triangles)} triangles, coloured by the model`;
      this.resize();
      this.turnTo(0, true);
      this.shade(this.shaded.getAttribute("aria-pressed") === "true");
      this.wire(this.wired.getAttribute("aria-pressed") === "true");
    }

    resize() {
      const { clientWidth, clientHeight } = this.canvas;
      if (!clientWidth || !this.size) return;
      this.renderer.setPixelRatio(Math.min(2, devicePixelRatio));
      this.renderer.setSize(clientWidth, clientHeight, false);
      this.camera.aspect = clientWidth / clientHeight;
      this.camera.updateProjectionMatrix();
      this.draw();
    }

    /** So far away that the face fills most of the picture. */
    distance() {
      const half = Math.tan(((FIELD_OF_VIEW / 2) * Math.PI) / 180);
      const { x, y, z } = this.size;
      return (0.6 * Math.max(y, Math.hypot(x, z) / this.camera.aspect)) / half + z / 2;
    }

    look(azimuth, polar, distance) {
      this.camera.position.setFromSphericalCoords(distance, polar, azimuth);
      this.controls.update();
      this.draw();
    }

    turnTo(degrees, atOnce = false) {
      cancelAnimationFrame(this.frame);
      const goal = [(-degrees * Math.PI) / 180, Math.PI / 2, this.distance()];
      if (atOnce || still.matches) return this.look(...goal);
      const from = [this.controls.getAzimuthalAngle(), this.controls.getPolarAngle(), this.camera.position.length()];
      const begin = performance.now();
      const step = (now) => {
        const t = Math.min(1, Math.max(0, now - begin) / 350);
        const eased = t * t * (3 - 2 * t);
        this.look(...from.map((value, i) => value + (goal[i] - value) * eased));
        if (t < 1) this.frame = requestAnimationFrame(step);
      };
      this.frame = requestAnimationFrame(step);
    }

    key(event) {
      const turn = (dx, dy, scale = 1) => this.look(
        this.controls.getAzimuthalAngle() + dx * STEP,
        Math.min(Math.PI - 0.1, Math.max(0.1, this.controls.getPolarAngle() + dy * STEP)),
        Math.min(60, Math.max(4, this.camera.position.length() * scale)),
      );
      const action = {
        ArrowLeft: () => turn(1, 0), ArrowRight: () => turn(-1, 0),
        ArrowUp: () => turn(0, 1), ArrowDown: () => turn(0, -1),
        "+": () => turn(0, 0, 1 / 1.15), "=": () => turn(0, 0, 1 / 1.15),
        "-": () => turn(0, 0, 1.15), 0: () => this.turnTo(0),
      }[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    }

    shade(on) {
      this.shaded.setAttribute("aria-pressed", String(on));
      this.part.material = on ? this.plain : this.coloured;
      this.draw();
    }

    wire(on) {
      this.wired.setAttribute("aria-pressed", String(on));
      this.plain.wireframe = this.coloured.wireframe = on;
      this.draw();
    }

    draw() {
      this.lamp.position.copy(this.camera.position);
      this.renderer.render(this.scene, this.camera);
    }

    save() {
      const { id, face } = data.meshes[this.current];
      const url = URL.createObjectURL(new Blob([this.bytes], { type: "model/gltf-binary" }));
      const name = `${id.split("/").pop()}_${face}.glb`;
      element("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    }

    failed(error) {
      this.title.textContent = `The face cannot be shown: ${error.message ?? error}`;
    }
  }

  Report.viewer = {
    /** Builds the viewer when it comes into sight. */
    build(root) {
      if (!data.meshes.length) {
        root.replaceChildren(element("p", { class: "muted" }, data.no_mesh || "There is no face to show."));
        return;
      }
      const viewer = new Viewer(root);
      Report.viewer.show = (number) => {
        root.scrollIntoView({ block: "center" });
        viewer.canvas.focus({ preventScroll: true });
        if (viewer.renderer) viewer.load(number);
        else viewer.wanted = number;
      };
      new IntersectionObserver((entries, observer) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        try {
          viewer.start();
          if (viewer.wanted) viewer.load(viewer.wanted);
        } catch {
          viewer.canvas.hidden = true;
          root.replaceChildren(element("p", { class: "muted" }, "This browser has no WebGL, so the face cannot be drawn here."));
        }
      }).observe(root);
    },
  };
}
