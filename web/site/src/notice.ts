// What has to be said above the content: a lost GPU, a file that does not fit, no WebGPU at all.
import { NoDeviceError } from "wgrad";
import { $, el } from "./dom.ts";
import { message } from "./format.ts";

/** Says something, with buttons; another notice of the same key takes its place. */
export function notice(key: string, kind: "error" | "info", text: string, buttons: Record<string, () => void> = {}): void {
    dismiss(key);
    const close = () => dismiss(key);
    const actions = Object.entries({ ...buttons, Dismiss: () => {} }).map(([label, act]) =>
        el("button", { type: "button", onclick: () => { close(); act(); } }, label),
    );
    const box = el("div", { className: `notice ${kind}` }, el("p", {}, text), el("div", { className: "buttons" }, ...actions));
    box.dataset.key = key;
    $("notices").append(box);
}

export function dismiss(key: string): void {
    document.querySelectorAll<HTMLElement>(`.notice[data-key="${key}"]`).forEach((box) => box.remove());
}

/** In place of everything where there is no GPU for the page: why, and what to do. */
export function noDevice(error: unknown): void {
    const reason = error instanceof NoDeviceError ? error.reason : undefined;
    const linux = "Chrome or Chromium on Linux: open chrome://flags/#enable-unsafe-webgpu, switch it on, and restart the browser. It may want chrome://flags/#enable-vulkan too.";
    const browsers = [
        "Chrome or Edge 113 or newer on Windows, macOS and ChromeOS; on Android Chrome 121 or newer.",
        "Safari 26 or newer on macOS, iOS and iPadOS.",
        "Firefox 141 or newer on Windows, 145 or newer on macOS.",
        linux,
    ];
    const [why, advice] = {
        insecure: ["browsers give it to pages that come by https: only.", ["Open this page by https:, or from localhost."]] as const,
        unsupported: ["this browser has no WebGPU. These have:", browsers] as const,
        adapter: ["this browser has WebGPU, but found no GPU for it.", [
            "Look whether hardware acceleration is switched on in the browser's settings, under System.",
            linux,
            "Update the graphics driver; chrome://gpu says what the browser holds against it.",
            "Try another browser: Safari 26, Firefox 141, Chrome or Edge 113, or newer ones.",
        ]] as const,
    }[reason ?? "adapter"];
    document.body.classList.add("no-gpu");
    $("notices").replaceChildren(
        el("section", { className: "missing", id: "no-webgpu" },
            el("h1", {}, "This page needs WebGPU"),
            el("div", { className: "card" },
                el("p", {}, `Everything here is computed on your own GPU, and ${why}`),
                el("ul", {}, ...advice.map((line) => el("li", {}, line))),
                el("details", {}, el("summary", {}, "What the browser said"), el("p", { className: "hint" }, message(error))),
                el("div", { className: "buttons" }, el("button", { type: "button", className: "primary", onclick: () => location.reload() }, "Try again")),
            ),
        ),
    );
}
