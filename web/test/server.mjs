// Serves folders as a static host would, with HTTP caching.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const types = {
    ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".svg": "image/svg+xml",
    ".json": "application/json", ".txt": "text/plain", ".bin": "application/octet-stream",
};

/** `folders` maps the first part of a path to a folder; "" is the rest. */
export function serve(folders) {
    const server = http.createServer((request, response) => {
        const name = decodeURIComponent(new URL(request.url, "http://localhost").pathname).slice(1);
        const [first, ...rest] = name.split("/");
        const own = first in folders && rest.length ? [folders[first], rest.join("/")] : [folders[""], name];
        let file = path.join(own[0], path.normalize(own[1] || "index.html"));
        if (fs.existsSync(file) && fs.statSync(file).isDirectory()) file = path.join(file, "index.html");
        if (!file.startsWith(own[0]) || !fs.existsSync(file)) return response.writeHead(name === "favicon.ico" ? 204 : 404).end();
        response.setHeader("content-type", types[path.extname(file)] ?? "application/octet-stream");
        response.setHeader("cache-control", "max-age=3600");
        fs.createReadStream(file).pipe(response);
    });
    return new Promise((done) => server.listen(0, "127.0.0.1", () => done({ server, url: `http://127.0.0.1:${server.address().port}/` })));
}
