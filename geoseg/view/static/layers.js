// One side of the view: a MapLibre map with imagery, classes, a measure and polygons, in this order from below.

import * as maplibre from "./maplibre-gl.mjs";

const HERE = document.baseURI.replace(/[^/]*$/, "");
const ORDER = ["imagery", "classes", "measure"];
const TILE = 256;
const WAIT_MS = 150;
const NOTHING = { type: "FeatureCollection", features: [] };

export class Side {
  constructor(container, about, bounds, { controls, told }) {
    this.about = about;
    this.told = told;
    this.shown = {};
    this.outlines = {};
    this.outlineCounts = () => {};
    this.map = new maplibre.Map({
      container,
      style: { version: 8, sources: {}, layers: [] },
      bounds,
      fitBoundsOptions: { padding: 24 },
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      maxPitch: 0,
      maxZoom: 23,
      renderWorldCopies: true,
      refreshExpiredTiles: false,
      fadeDuration: 0,
      locale: { "Map.Title": "Map: arrow keys move it, plus and minus enlarge and reduce it" },
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    if (controls) {
      this.map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
      this.map.addControl(new maplibre.ScaleControl({ unit: "metric" }), "bottom-left");
    }
    this.map.on("error", (event) => this.#failed(event.error));
    this.map.on("moveend", () => this.#outlinesSoon());
    this.loaded = new Promise((resolve) => this.map.once("load", resolve));
    document.getElementById(container).map = this.map; // for the console, and for tests
  }

  /** Show these layers: {imagery, cut, gamma, map, opacity, measure, measureOpacity, outlines}. */
  async show(choice) {
    await this.loaded;
    const map = this.about.maps.find((one) => one.id === choice.map);
    const imagery = this.about.imagery.find((one) => one.id === choice.imagery);
    const classes = map?.layers[0];
    const measure = map?.layers.find((one) => one.id === choice.measure);
    const stretch = `cut=${choice.cut}&gamma=${choice.gamma}`;
    this.#raster("imagery", imagery, imagery && `imagery/${imagery.id}/{z}/{x}/{y}.png?${stretch}&v=${imagery.version}`, 1, "linear");
    this.#raster("classes", map, classes && `tiles/${classes.id}/{z}/{x}/{y}.png?v=${classes.version}`, choice.opacity, "nearest");
    this.#raster("measure", map, measure && `tiles/${measure.id}/{z}/{x}/{y}.png?v=${measure.version}`, choice.measureOpacity, "nearest");
    this.#polygons(map, choice.outlines ?? []);
  }

  /** Call `told(shown, there)` whenever other polygons are drawn; with null where there are none. */
  whenOutlinesChange(told) {
    this.outlineCounts = told;
  }

  /** One raster layer; it is made anew only where it is another one. */
  #raster(name, place, path, opacity, resampling) {
    const map = this.map;
    if (this.shown[name] !== path) {
      const before = this.shown[name];
      const same = before && path && before.split("?")[0] === path.split("?")[0];
      if (same) {
        map.getSource(name).setTiles([HERE + path]);
      } else {
        if (before) {
          map.removeLayer(name);
          map.removeSource(name);
        }
        if (path) {
          const [west, south, east, north] = place.bounds;
          const inside = east <= 180 ? { bounds: [west, south, east, north] } : {};
          map.addSource(name, { type: "raster", tiles: [HERE + path], tileSize: TILE, maxzoom: place.maxzoom, ...inside });
          const paint = { "raster-resampling": resampling, "raster-fade-duration": 0 };
          map.addLayer({ id: name, type: "raster", source: name, paint }, this.#above(name));
        }
      }
      this.shown[name] = path;
    }
    if (path) {
      map.setPaintProperty(name, "raster-opacity", opacity);
    }
  }

  /** The layer in front of which a raster is put. */
  #above(name) {
    const later = ORDER.slice(ORDER.indexOf(name) + 1).find((other) => this.map.getLayer(other));
    return later ?? this.map.getStyle().layers.find((layer) => layer.type === "line")?.id;
  }

  #polygons(map, chosen) {
    for (const id of Object.keys(this.outlines).filter((id) => !chosen.includes(id))) {
      this.map.removeLayer(`${id}-line`);
      this.map.removeLayer(`${id}-casing`);
      this.map.removeSource(id);
      this.outlines[id].abort();
      delete this.outlines[id];
    }
    for (const id of chosen.filter((id) => !this.outlines[id])) {
      this.outlines[id] = new AbortController();
      this.map.addSource(id, { type: "geojson", data: NOTHING });
      this.map.addLayer({ id: `${id}-casing`, type: "line", source: id, paint: { "line-color": "#ffffff", "line-width": 2.6, "line-opacity": 0.55 } });
      this.map.addLayer({ id: `${id}-line`, type: "line", source: id, paint: { "line-color": ["get", "colour"], "line-width": 1.3 } });
      this.#fetchOutlines(id);
    }
    if (!chosen.length) {
      this.outlineCounts(null, null);
    }
  }

  #outlinesSoon() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => Object.keys(this.outlines).forEach((id) => this.#fetchOutlines(id)), WAIT_MS);
  }

  async #fetchOutlines(id) {
    this.outlines[id].abort();
    this.outlines[id] = new AbortController();
    const box = this.map.getBounds();
    const [west, south, east, north] = [box.getWest(), Math.max(box.getSouth(), -85), box.getEast(), Math.min(box.getNorth(), 85)];
    const words = new URLSearchParams({ west, south, east, north, zoom: this.map.getZoom() + 1 }); // MapLibre counts in tiles of 512
    try {
      const answer = await fetch(`outlines/${id}?${words}`, { signal: this.outlines[id].signal });
      const found = await answer.json();
      if (!answer.ok) {
        throw new Error(found.detail);
      }
      this.map.getSource(id)?.setData(found);
      this.outlineCounts(found.shown, found.there);
    } catch (error) {
      if (error.name !== "AbortError") {
        this.told(error);
      }
    }
  }

  /** A tile that is not there: the server says why. */
  async #failed(error) {
    if (error?.name === "AbortError") {
      return;
    }
    const said = error?.url ? await fetch(error.url).then((answer) => answer.json(), () => null).catch(() => null) : null;
    this.told(new Error(said?.detail ?? `a part of the map cannot be shown (${error?.message ?? "unknown"}); is geoseg view still running?`));
  }
}
