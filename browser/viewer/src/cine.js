// Plays the pictures one after another, none left out, at a rate that a person changes.
const SLOWEST = 1;
const FASTEST = 60;

export class Cine {
  constructor(viewer) {
    this.viewer = viewer;
    this.playing = false;
    this.rate = 12;
  }

  toggle() {
    const { cine } = this.viewer.parts;
    this.playing = !this.playing;
    cine.textContent = this.playing ? "Stop" : "Play";
    cine.setAttribute("aria-pressed", this.playing);
    if (this.playing) this.#play();
    this.viewer.showPlace();
  }

  changeRate(factor) {
    this.rate = Math.min(Math.max(this.rate * factor, SLOWEST), FASTEST);
    this.viewer.showPlace();
  }

  // Says a place among the pictures, and how fast they go by.
  inWords(place) {
    return this.playing ? `${place} · ${Math.round(this.rate)}/s` : place;
  }

  #play() {
    const { viewer } = this;
    let due = performance.now() + 1000 / this.rate;
    const tick = async (now) => {
      if (!this.playing || viewer.over.signal.aborted) return;
      if (now >= due) {
        due = Math.max(due + 1000 / this.rate, now);
        // Nothing is left out: a picture that has not come yet is waited for.
        await viewer.goTo((viewer.index + 1) % viewer.count);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }
}
