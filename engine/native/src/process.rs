//! How processes end: with the one that started them, and without ceremony.
use crate::error::{Result, check};
use crate::ffi;
use std::process::Command;

/// Has the process that `command` starts killed (SIGKILL) when the calling thread ends, even if the
/// whole calling process is killed and can do nothing more about it. On Linux; elsewhere it does
/// nothing. Processes that it starts in turn are not killed with it.
///
/// Call this and start the command on a thread that lives as long as the process is wanted, such as the
/// main thread: the system ties the process to its parent *thread* (`PR_SET_PDEATHSIG`, `man 2 prctl`).
pub fn kill_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::Errno;
        use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
        use std::os::unix::process::CommandExt;

        let parent = getpid();
        let tie = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before: then nobody will send the signal.
            if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
        };
        // SAFETY: the closure runs between fork and exec, where only what a signal handler may do is
        // allowed: it makes two system calls, allocates nothing and takes no lock.
        unsafe { command.pre_exec(tie) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// From here on the process ends without taking libtorch apart: its tables of operators fill a hundred
/// thousand pieces of memory, and giving each back takes as long as a third of starting the program. Whether `main`
/// returns or somebody calls [`std::process::exit`], the status stays what it is, and what was written to standard
/// output arrives. Handlers that the program registers (`atexit`) after this call run, those from before do not:
/// LeakSanitizer's among them, while LLVM's profiles, where `LLVM_PROFILE_FILE` asks for one, make this do nothing. With
/// glibc; elsewhere it does nothing.
///
/// # Errors
/// There is no room for one more handler.
pub fn skip_teardown() -> Result<()> {
    // SAFETY: takes no pointer. What the handler skips are destructors of objects that nothing can reach any more.
    check(unsafe { ffi::ty_skip_teardown() })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::thread;

    #[test]
    fn the_process_ends_with_its_parent() {
        let start = || {
            let mut command = Command::new("sleep");
            kill_with_parent(command.arg("60"));
            command.spawn().unwrap()
        };
        let mut child = thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn the_process_lives_as_long_as_its_parent() {
        let mut command = Command::new("sh");
        kill_with_parent(command.args(["-c", "sleep 0.1; exit 7"]));
        assert_eq!(command.status().unwrap().code(), Some(7));
    }
}
