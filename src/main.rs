//! The program: parses, and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard::command::main()
}
