//! The first file system of a machine: a busybox and the modules that reach the real one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use xtask::process;

use super::debian::{Debian, Kernel};

/// What must be there before the root is.
const MODULES: [&str; 5] = ["virtio_pci", "9p", "9pnet_virtio", "overlay", "virtio_rng"];

/// `@modules@` stands for the names of the modules' files, in order.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev
for m in @modules@; do $b insmod /modules/$m || echo "insmod $m failed"; done
share() { $b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,$3 $1 $2 || echo "mount $1 failed"; }
share root /lower cache=loose,ro
$b mount -t tmpfs -o size=1g tmpfs /upper; $b mkdir /upper/u /upper/w
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w overlay /new
$b mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp /new/lib/modules
$b mount -t proc proc /new/proc; $b mount -t sysfs sys /new/sys; $b mount -t devtmpfs dev /new/dev
$b mount -t tmpfs tmpfs /new/run
$b mkdir -p /new/run/out /new/dev/pts /new/dev/shm
$b mount -t devpts devpts /new/dev/pts; $b mount -t tmpfs shm /new/dev/shm
share out /new/run/out cache=none
share modules /new/lib/modules cache=loose,ro
exec $b switch_root /new /bin/bash /run/out/init.sh
"#;

/// Makes it, once for each kernel.
pub(super) fn make(kernel: &Kernel, debian: &Debian) -> Result<PathBuf> {
    let image = kernel.files.join("initrd.gz");
    if image.exists() {
        return Ok(image);
    }
    let directory = kernel.files.join("initrd");
    fs::remove_dir_all(&directory).ok();
    for name in ["bin", "modules", "proc", "sys", "dev", "new", "lower", "upper"] {
        fs::create_dir_all(directory.join(name))?;
    }
    let busybox = kernel.files.join("busybox");
    debian.unpack(&["busybox-static"], &busybox, false)?;
    let found = ["bin/busybox", "usr/bin/busybox"].map(|path| busybox.join(path));
    let found = found
        .iter()
        .find(|path| path.exists())
        .context("busybox-static has no busybox")?;
    fs::copy(found, directory.join("bin/busybox"))?;

    let mut names: Vec<String> = Vec::new();
    for module in MODULES {
        for file in files_of(module, kernel)? {
            let name = copy_module(&file, &directory.join("modules"))?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let init = directory.join("init");
    fs::write(&init, INIT.replace("@modules@", &names.join(" ")))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let pack = "find . | cpio -o -H newc --quiet | gzip -1";
    let output = Command::new("sh").args(["-c", pack]).current_dir(&directory).output()?;
    ensure!(output.status.success(), "cannot pack {}", directory.display());
    fs::write(&image, output.stdout)?;
    Ok(image)
}

/// The files of a module and of all it needs, those first; none where the kernel has it built in.
fn files_of(module: &str, kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut modprobe = Command::new("modprobe");
    modprobe
        .arg("-d")
        .arg(&kernel.files)
        .args(["-S", &kernel.release, "--show-depends", module]);
    let text = process::output(&mut modprobe).with_context(|| format!("the kernel has no module {module}"))?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("insmod "));
    Ok(lines.map(|path| PathBuf::from(path.trim())).collect())
}

/// Copies a module, uncompressed; returns the name of its file.
fn copy_module(file: &Path, into: &Path) -> Result<String> {
    let name = file
        .file_name()
        .context("a module without a name")?
        .to_string_lossy()
        .into_owned();
    let plain = name.trim_end_matches(".xz").to_owned();
    if plain == name {
        fs::copy(file, into.join(&plain))?;
    } else {
        let output = Command::new("xz").arg("-dc").arg(file).output()?;
        ensure!(output.status.success(), "cannot unpack {}", file.display());
        fs::write(into.join(&plain), output.stdout)?;
    }
    Ok(plain)
}
