/** The end of waiting: by a caller's signal, or after a time. */

/**
 * A signal that aborts with another one, or when a time is over.
 *
 * `AbortSignal.any` and `AbortSignal.timeout` would do, but Node.js 20 may collect what they return before it aborts.
 */
export class Patience {
  /** True once the time is over. */
  over = false;
  private readonly controller = new AbortController();
  private readonly abort = () => this.controller.abort(this.outer?.reason);
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly outer?: AbortSignal) {
    if (outer?.aborted) this.abort();
    else outer?.addEventListener("abort", this.abort);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Abort after some milliseconds from now, instead of an earlier choice. */
  within(milliseconds: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.over = true;
      this.controller.abort();
    }, milliseconds);
  }

  /** Stop the clock until `within` is called again. */
  pause(): void {
    clearTimeout(this.timer);
  }

  /** Let go of the other signal. What still uses this one is aborted. */
  end(): void {
    this.pause();
    this.outer?.removeEventListener("abort", this.abort);
    this.controller.abort();
  }

  /** Return the outcome of some work, unless the signal aborts first; then throw its reason. */
  async of<T>(work: Promise<T>): Promise<T> {
    let abort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      abort = () => reject(this.signal.reason);
      if (this.signal.aborted) abort();
      else this.signal.addEventListener("abort", abort);
    });
    try {
      return await Promise.race([work, aborted]);
    } finally {
      this.signal.removeEventListener("abort", abort);
      // Its late failure is of no interest.
      work.catch(() => {});
    }
  }
}

/** Wait for some milliseconds. Throws the signal's reason if it is aborted first. */
export async function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  const patience = new Patience(signal);
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    await patience.of(new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds))));
  } finally {
    clearTimeout(timer);
    patience.end();
  }
}
