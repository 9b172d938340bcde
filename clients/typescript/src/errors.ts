/** The errors of calls. */

import type { components } from "./schema.js";

/** A problem document (RFC 9457). A type of objects may add members of its own. */
export type Problem = components["schemas"]["Problem"] & Record<string, unknown>;

/** One of several errors of a body. */
export interface FieldError {
  field: string;
  detail: string;
}

const RETRYABLE = new Set(["rate-limited", "unavailable", "overloaded", "moved"]);

/** The fleet refused the call or failed. Decide by `code`, which is stable; `message` is for people. */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly code: string;
  /** The path of the value that was refused, or undefined. */
  readonly field: string | undefined;
  readonly errors: FieldError[];
  /** Seconds after which a repeat may succeed, or undefined. */
  readonly retryAfter: number | undefined;
  /** True if the same request may succeed later. The client has then repeated it until its deadline. */
  readonly retryable: boolean;

  constructor(
    /** The whole document, such as with the `challenge` of `mfa-required`. */
    readonly problem: Partial<Problem> & { code: string; status: number },
    /** Finds the request in the fleet's logs; empty if there was no answer. */
    readonly requestId = "",
    options?: ErrorOptions,
  ) {
    super(problem.detail || problem.title || problem.code, options);
    this.status = problem.status;
    this.code = problem.code;
    this.field = problem.field ?? undefined;
    this.errors = (problem.errors as FieldError[] | undefined) ?? [];
    this.retryAfter = problem.retry_after ?? undefined;
    this.retryable = RETRYABLE.has(problem.code);
  }
}

/** There was no answer at all before the deadline; `cause` says why. A change may or may not have been applied. */
export class Unreachable extends ApiError {
  override name = "Unreachable";

  constructor(detail: string, cause?: unknown) {
    super({ code: "unavailable", status: 503, detail }, "", { cause });
  }
}

/** Return the error that a response describes. A proxy's has no problem document. */
export async function errorOf(response: Response): Promise<ApiError> {
  const { status } = response;
  const found = (await response.json().catch(() => null)) as Partial<Problem> | null;
  const code = found?.code ?? ([502, 503, 504].includes(status) ? "unavailable" : "unexpected-answer");
  const problem = { detail: `${response.url} answered ${status}`, ...found, code, status };
  return new ApiError(problem, response.headers.get("x-request-id") ?? "");
}
