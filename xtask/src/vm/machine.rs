//! One boot: a root, a command, and what came of it.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};
use xtask::{process, setup, target_dir, workspace};

use super::debian::Kernel;

/// A machine to boot.
pub(super) struct Machine<'a> {
    /// Rust's name of the architecture.
    pub(super) arch: &'a str,
    pub(super) kernel: &'a Kernel,
    pub(super) initrd: &'a Path,
    /// What `/` is, read only; the machine's changes go to its memory.
    pub(super) root: &'a Path,
}

/// What a command came to.
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) output: String,
}

/// Longest that a machine may take, in seconds. Without KVM an instruction takes some ten times as long.
const PATIENCE: &str = "1500";

/// Modules of a lab that nobody loads by themselves.
const MODULES: &str = "veth sch_ingress cls_bpf act_bpf bridge dummy 8021q tun";

/// Installs the commands that machines need.
pub(super) fn install(arch: &str) -> Result<()> {
    let qemu = match arch {
        "aarch64" => ("qemu-system-aarch64", "qemu-system-arm"),
        _ => ("qemu-system-x86_64", "qemu-system-x86"),
    };
    setup::install_tools(&[qemu, ("cpio", "cpio"), ("modprobe", "kmod"), ("xz", "xz-utils")])
}

impl Machine<'_> {
    /// Boots, runs a shell script, and ends.
    pub(super) fn run(&self, script: &str) -> Result<Outcome> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("out-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let out = target_dir().join("vm").join(name);
        fs::create_dir_all(&out)?;
        fs::write(out.join("script.sh"), script)?;
        fs::write(out.join("init.sh"), self.init())?;
        let console = fs::File::create(out.join("console"))?;
        let status = self
            .qemu(&out)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .status()
            .context("cannot start QEMU")?;
        let said = |file: &str| fs::read(out.join(file)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let code = said("code").ok().and_then(|text| text.trim().parse().ok());
        let Some(code) = code else {
            let console = said("console").unwrap_or_default();
            let tail: Vec<_> = console.lines().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            let output = said("output").unwrap_or_default();
            bail!("the machine ended early ({status}):\n{output}\n{}", tail.join("\n"));
        };
        let output = said("output")?;
        fs::remove_dir_all(&out).ok();
        Ok(Outcome { code, output })
    }

    /// The first process: what every machine has before the script runs.
    fn init(&self) -> String {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let modprobe = MODULES
            .split(' ')
            .map(|module| format!("modprobe {module} 2>/dev/null\n"));
        format!(
            "export PATH={path} HOME=/root TERM=dumb RUST_BACKTRACE=0\n\
             mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cgroup /sys/fs/cgroup; ip link set lo up\n\
             {}cd {} 2>/dev/null || cd /\n\
             bash /run/out/script.sh >/run/out/output 2>&1; echo $? >/run/out/code\n\
             sync; echo o >/proc/sysrq-trigger; sleep 60\n",
            modprobe.collect::<String>(),
            workspace().display()
        )
    }

    fn qemu(&self, out: &Path) -> Command {
        let (program, console) = match self.arch {
            "aarch64" => ("qemu-system-aarch64", "ttyAMA0"),
            _ => ("qemu-system-x86_64", "ttyS0"),
        };
        let mut qemu = process::as_root("timeout");
        qemu.args([PATIENCE, program]);
        match self.arch {
            // Pointer authentication in its architected form takes most of an emulated processor's time.
            "aarch64" => qemu.args(["-M", "virt", "-cpu", "max,pauth-impdef=on"]),
            _ => qemu.args(["-M", "q35", "-cpu", "max"]),
        };
        // KVM of this project's machines cannot run Debian's kernels; emulation runs everywhere.
        qemu.args([
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-m",
            "3072",
            "-nographic",
            "-no-reboot",
            "-nic",
            "none",
        ]);
        qemu.arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(self.initrd);
        qemu.args([
            "-append",
            &format!("console={console} quiet loglevel=4 panic=-1 mitigations=off"),
        ]);
        let modules = self.kernel.modules();
        for (tag, path, read_only) in [
            ("root", self.root, true),
            ("out", out, false),
            ("modules", &modules, true),
        ] {
            let read_only = if read_only { ",readonly=on,multidevs=remap" } else { "" };
            qemu.arg("-fsdev").arg(format!(
                "local,id={tag},path={},security_model=none{read_only}",
                path.display()
            ));
            qemu.arg("-device")
                .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
        qemu.args(["-device", "virtio-rng-pci"]);
        qemu
    }
}
