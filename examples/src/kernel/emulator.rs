//! An emulator's process, which never outlives its owner.

use std::fs::File;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running emulator. It is killed and reaped when this is dropped, be it by a panic. If `pmaplab` itself is killed, the
/// system kills the emulator.
pub(super) struct Process {
    child: Child,
    /// How it ended, once that is known. From then on its number may be somebody else's.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` without input, its output going to `log`. The caller's thread must not end before the process.
    pub(super) fn start(mut command: Command, log: File) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        #[cfg(target_os = "linux")]
        linux::tie(&mut command);
        Ok(Self { child: command.spawn()?, ended: None })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Ends it now.
    pub(super) fn stop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        #[cfg(target_os = "linux")]
        linux::kill_group(&self.child);
        // Both can only fail if it has ended by itself.
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use rustix::process::{
        Pid, Signal, getpid, getppid, kill_process_group, set_parent_process_death_signal,
    };

    /// Makes the process die with its parent, and puts it into a group of its own: an interrupt from the terminal reaches
    /// the parent only, which then decides.
    pub(super) fn tie(command: &mut Command) {
        let parent = getpid();
        command.process_group(0);
        // SAFETY: between fork and exec only system calls are made: none allocates, locks, or touches another thread's state.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // It may have died before it could be tied.
                if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            });
        }
    }

    /// Kills the process, which has not been reaped, and all that it started.
    pub(super) fn kill_group(child: &Child) {
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It can only fail if the process has ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sleeper() -> (Process, PathBuf) {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::start(command, tempfile::tempfile().unwrap()).unwrap();
        let folder = PathBuf::from(format!("/proc/{}", process.child.id()));
        assert!(folder.exists());
        (process, folder)
    }

    #[test]
    fn it_is_killed_and_reaped_when_dropped() {
        let (process, folder) = sleeper();
        drop(process);
        assert!(!folder.exists(), "a zombie would still be there");
    }

    #[test]
    fn it_is_killed_and_reaped_when_its_owner_panics() {
        let (process, folder) = sleeper();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _process = process;
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && !folder.exists());
    }
}
