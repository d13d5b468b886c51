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

impl Place {
    /// The program without the right to write where permissions forbid it, which root has; `None` where that right
    /// cannot be given up.
    pub fn without_write_anywhere(&self, arguments: &str) -> Option<Output> {
        let may_write_anywhere = {
            let probe = self.path("probe");
            std::fs::write(&probe, "").unwrap();
            std::fs::set_permissions(&probe, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
            let opened = std::fs::OpenOptions::new().write(true).open(&probe).is_ok();
            std::fs::remove_file(&probe).unwrap();
            opened
        };
        if !may_write_anywhere {
            return Some(self.run(arguments));
        }
        let give_up = ["--bounding-set=-dac_override", "--inh-caps=-dac_override"];
        let usable = Command::new("setpriv").args(give_up).arg("true").status().is_ok_and(|status| status.success());
        let mut command = Command::new("setpriv");
        command.args(give_up).arg(PROGRAM).args(arguments.split_whitespace()).current_dir(self.path(""));
        usable.then(|| command.output().unwrap())
    }
}

/// What came of a command on a disk that is too small, and then has room.
pub struct OnSmallDisk {
    pub first: Output,
    /// What was on the disk after that.
    pub left: Vec<String>,
    /// The same command, with room.
    pub again: Output,
}

impl Place {
    /// Runs a command that writes to `small/out`, on a disk of so many KiB that only this process sees; what it
    /// wrote is in `copied` afterwards. `None` where nothing may be mounted.
    pub fn on_small_disk(&self, kib: u32, options: &str, arguments: &str) -> Option<OnSmallDisk> {
        std::fs::create_dir_all(self.path("small")).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={kib}k,{options} small small || exit 99
            \"$0\" \"$@\" > first.out 2> first.err; echo $? > first.code
            find small -mindepth 1 > left
            mount -o remount,rw,size=64m,nr_inodes=1m small || exit 99
            \"$0\" \"$@\"; code=$?
            cp -r small/out copied 2> /dev/null
            exit $code"
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, PROGRAM]).args(arguments.split_whitespace());
        let again = command.current_dir(self.path("")).output().ok()?;
        if !self.path("first.code").exists() {
            return None;
        }
        let text = |name: &str| std::fs::read_to_string(self.path(name)).unwrap();
        let code: i32 = text("first.code").trim().parse().unwrap();
        let status = std::os::unix::process::ExitStatusExt::from_raw(code << 8);
        let first = Output { status, stdout: text("first.out").into(), stderr: text("first.err").into() };
        let left = text("left").lines().map(str::to_owned).collect();
        for name in ["first.code", "first.out", "first.err", "left"] {
            std::fs::remove_file(self.path(name)).unwrap();
        }
        Some(OnSmallDisk { first, left, again })
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
