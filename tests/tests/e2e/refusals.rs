//! What svcproxy will not do, and how it says so: one line, with the way out, and an exit code that is not 0.

use std::fs;

use object::write::{Object, Symbol, SymbolSection};
use svcproxy_tests::lab::Lab;

use crate::scenario::{Scenario, kubia, pods, topology};

/// A lab with manifests and no daemon.
fn idle(mode: &str) -> Lab {
    let lab = Lab::new(&topology(mode)).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    lab
}

/// Runs svcproxy, which must refuse with an error of one line that contains all of `words`.
#[track_caller]
fn assert_refused(lab: &Lab, flags: &[&str], words: &[&str]) {
    let (status, said) = lab.run_daemon(flags).unwrap();
    assert!(!status.success(), "{said}");
    let last = said.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "no {word:?} in the last line of:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_missing_interface_is_named() {
    assert_refused(
        &idle("tc"),
        &["--iface", "eth9", "--require-iface"],
        &["eth9", "ip link"],
    );
}

#[test]
fn a_second_daemon_is_refused() {
    for mode in ["xdp", "tc"] {
        let scenario = Scenario::new(mode);
        // With the same pins, and with pins and state of its own.
        assert_refused(&scenario.lab, &["--iface", "eth0", "--mode", mode], &["svcproxy"]);
        let (status, said) = scenario.lab.run_stranger(&["--iface", "eth0", "--mode", mode]).unwrap();
        assert!(
            !status.success() && said.contains("another svcproxy is attached to eth0"),
            "{said}"
        );
        let target = scenario.targets(80)[0];
        assert!(
            crate::scenario::ask(&scenario.lab, target, 30).failures.is_empty(),
            "the first must not suffer"
        );
    }
}

#[test]
fn maps_of_another_layout_are_named_by_it_and_not_by_what_is_wrong_with_them() {
    let Scenario { daemon, lab, .. } = Scenario::new("tc");
    assert!(daemon.stop().unwrap().success());
    let pin = |name: &str| lab.pin_dir().join(name).to_string_lossy().into_owned();
    let version = ["key", "0", "0", "0", "0", "value", "255", "0", "0", "0"];
    lab.node
        .run(
            "bpftool",
            &[&["map", "update", "pinned", &pin("layout")], &version[..]].concat(),
        )
        .unwrap();
    // Another layout's maps may be of other types.
    for (from, to) in [
        ("backend_slots", "spare"),
        ("services_v4", "backend_slots"),
        ("spare", "services_v4"),
    ] {
        fs::rename(pin(from), pin(to)).unwrap();
    }
    let flags = ["--iface", "eth0", "--mode", "tc"];
    assert_refused(&lab, &flags, &["layout 255", "svcproxy --cleanup"]);
    lab.cleanup().unwrap();
    let _daemon = lab.start_daemon("tc").unwrap();
}

#[test]
fn a_foreign_xdp_program_is_respected() {
    let lab = idle("xdp");
    let object = lab.directory().join("pass.o");
    fs::write(&object, xdp_pass()).unwrap();
    let pinned = lab.directory().join("bpf/foreign");
    let [object, pinned] = [object, pinned].map(|path| path.to_string_lossy().into_owned());
    lab.node
        .run("bpftool", &["prog", "load", &object, &pinned, "type", "xdp"])
        .unwrap();
    lab.node
        .run("ip", &["link", "set", "dev", "eth0", "xdpdrv", "pinned", &pinned])
        .unwrap();
    // The first interface takes its program, the second does not.
    let veth = lab.pods[0].interface.as_str();
    assert_refused(
        &lab,
        &["--iface", veth, "--iface", "eth0", "--mode", "xdp"],
        &["eth0", "XDP program", "--mode tc"],
    );
    assert!(!lab.pin_dir().exists(), "a refused start leaves no map and no link");
    let links = lab
        .node
        .run("ip", &["-details", "link", "show", "dev", "eth0"])
        .unwrap();
    assert!(links.contains("xdp"), "the foreign program must stay: {links}");
}

#[test]
fn a_missing_capability_is_named() {
    let lab = idle("tc");
    // CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON, so it must go as well.
    for (dropped, name) in [
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-net_admin,-sys_admin", "CAP_NET_ADMIN"),
    ] {
        let bounding = format!("--bounding-set={dropped}");
        let (status, said) = lab
            .run_daemon_under(&["setpriv", &bounding], &["--iface", "eth0"])
            .unwrap();
        assert!(!status.success(), "{said}");
        assert!(
            said.lines().last().is_some_and(|last| last.contains(name)),
            "no {name} in the last line of:\n{said}"
        );
    }
}

#[test]
fn a_broken_manifest_is_pointed_at() {
    let lab = idle("tc");
    lab.set_manifests(&[(
        "bad.yaml",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: Bad_Name\nspec:\n  ports:\n    - port: 80\n",
    )])
    .unwrap();
    let (status, said) = lab.run_daemon(&["--iface", "eth0"]).unwrap();
    assert!(!status.success());
    assert!(said.contains("bad.yaml") && said.contains("Bad_Name"), "{said}");
    assert!(!lab.pin_dir().exists(), "a refused start leaves no map");
}

/// An object with the program `return XDP_PASS`.
fn xdp_pass() -> Vec<u8> {
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let program = object.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    // r0 = 2; exit
    let instructions = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    object.append_section_data(program, &instructions, 8);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, b"GPL\0", 1);
    object.add_symbol(Symbol {
        name: b"someone_elses".to_vec(),
        value: 0,
        size: instructions.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(program),
        flags: SymbolFlags::None,
    });
    object.write().unwrap()
}
