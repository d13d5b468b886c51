//! The program as a process that is stopped, killed, or finds the disk full.

use super::place::Place;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mercury-analyzer");

impl Place {
    /// The program, started in this place.
    pub fn start(&self, arguments: &str) -> Child {
        let mut command = Command::new(PROGRAM);
        command.args(arguments.split_whitespace()).current_dir(self.path(""));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The program under limits of the shell, such as `-f 8` (blocks of 512 bytes that a file may have).
    pub fn limited(&self, limit: &str, arguments: &str) -> Output {
        let mut command = Command::new("sh");
        // Without the signal, so that writing fails as on a full disk.
        command.args(["-c", &format!("trap '' XFSZ; ulimit {limit}; exec \"$0\" \"$@\""), PROGRAM]);
        command.args(arguments.split_whitespace()).current_dir(self.path("")).output().unwrap()
    }
}

/// Waits until `there`; false where the process ended before.
pub fn wait_until(child: &mut Child, there: impl Fn() -> bool) -> bool {
    loop {
        if there() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Kills a process (SIGKILL) after a time; whether it had ended by itself.
pub fn kill_after(mut child: Child, time: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < time {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}
