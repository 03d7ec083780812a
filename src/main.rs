//! The `wgrad` command; everything is in the library's `cli` module.

fn main() -> std::process::ExitCode {
    wgrad::cli::main()
}
