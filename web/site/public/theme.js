// Before anything is drawn: the theme that was chosen here, or else the system's.
(function () {
    var dark = matchMedia("(prefers-color-scheme: dark)");
    function choose() {
        var own = null;
        try {
            own = localStorage.getItem("theme");
        } catch (refused) {
            // Without storage the system decides.
        }
        document.documentElement.dataset.theme = own || (dark.matches ? "dark" : "light");
        document.dispatchEvent(new Event("themechange"));
    }
    dark.addEventListener("change", choose);
    choose();
})();
