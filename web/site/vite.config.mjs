// The demo site: static files under site/dist that work from any folder of any host.
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const site = path.dirname(fileURLToPath(import.meta.url));

export default defineConfig({
    root: site,
    base: "./",
    resolve: { alias: { wgrad: path.join(site, "../dist/index.js") } },
    // The digits lie in the repository's data/.
    server: { fs: { allow: [path.join(site, "../..")] } },
    build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: false },
    worker: { format: "es" },
});
