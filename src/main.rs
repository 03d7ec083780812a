//! The `wgrad` command; everything is in the library's `cli` module.

fn main() -> std::process::ExitCode {
    quiet_mesa();
    wgrad::cli::main()
}

/// Mesa's device-select layer asks the desktop for its GPU, and complains on stderr where there is
/// no desktop (a server, a container). Then there is nothing to ask.
#[cfg(target_os = "linux")]
fn quiet_mesa() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_mesa() {}
