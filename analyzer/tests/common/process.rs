//! Runs the program as a process that is stopped, is killed, or has limited disk space.

use super::place::Place;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mercury-analyzer");

impl Place {
    /// Starts the program in this place.
    pub fn start(&self, arguments: &str) -> Child {
        let mut command = Command::new(PROGRAM);
        command.args(arguments.split_whitespace()).current_dir(self.path(""));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the program under a limit of the shell, such as `-f 8` (maximum file size in blocks of
    /// 512 bytes).
    pub fn limited(&self, limit: &str, arguments: &str) -> Output {
        let mut command = Command::new("sh");
        // The signal is ignored, so that writing fails as on a full disk.
        command.args(["-c", &format!("trap '' XFSZ; ulimit {limit}; exec \"$0\" \"$@\""), PROGRAM]);
        command.args(arguments.split_whitespace()).current_dir(self.path("")).output().unwrap()
    }
}

impl Place {
    /// Runs the program without root's right to ignore file permissions. `None` if that right
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

/// The outcome of a command on a disk that is too small and is enlarged later.
pub struct OnSmallDisk {
    pub first: Output,
    /// The files that the first run left on the disk.
    pub left: Vec<String>,
    /// The same command on the enlarged disk.
    pub again: Output,
}

impl Place {
    /// Runs a command that writes to `small/out`, where `small` is a mounted disk of `kib` KiB. The
    /// final output is copied to `copied`. `None` if mounting is not allowed.
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

/// Waits until `is_reached` is true; returns false if the process ended before.
pub fn wait_until(child: &mut Child, is_reached: impl Fn() -> bool) -> bool {
    loop {
        if is_reached() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Kills a process (SIGKILL) after a time; returns whether it had ended by itself.
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
