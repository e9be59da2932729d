//! What `explain` says of the running datapath, and that it leaves no trace there.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, Scenario, kubia, topology},
};

over_xdp_and_tc!(explain_speaks_of_the_running_datapath_and_leaves_no_trace);

fn explain_speaks_of_the_running_datapath_and_leaves_no_trace(mode: &str) {
    let scenario = Scenario::with(mode, &topology(mode), &kubia().affinity());
    scenario.visit();
    let Scenario { lab, ips, .. } = &scenario;
    let vip = SocketAddr::new(ips[0], HTTP);
    let json = |arguments: &[&str]| -> Value {
        let text = lab.explain(&[arguments, &["-o", "json"]].concat()).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let got = |resource| -> Vec<Value> {
        let text = lab.get(&[resource, "-o", "json"]).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().unwrap().clone()
    };

    // A client that has been here keeps its endpoint; one that has not gets none by asking.
    let given = got("affinity");
    let of_client = |client: &str| given.iter().find(|item| item["client"] == client).cloned();
    let endpoint = of_client("10.0.0.2").expect("the client has visited")["endpoint"].clone();
    let known = json(&["10.0.0.2", &vip.to_string()]);
    assert_eq!(known["verdict"], "forward");
    assert_eq!(known["service"], "default/kubia:http");
    assert_eq!(known["backends"].as_array().unwrap().len(), lab.pods.len());
    assert_eq!(known["chosen"], format!("{}:8080", endpoint.as_str().unwrap()));
    let connections = got("flows").len();
    let questions: String = (3..250).map(|client| format!("10.0.0.{client} {vip}/tcp\n")).collect();
    let file = lab.directory().join("questions");
    std::fs::write(&file, questions).unwrap();
    let strangers = lab.explain(&["--batch", file.to_str().unwrap()]).unwrap();
    assert_eq!(strangers.matches("\"verdict\":\"forward\"").count(), 247, "{strangers}");
    assert_eq!(got("affinity").len(), given.len());
    assert_eq!(got("flows").len(), connections);

    // The connection itself, while it exists.
    let stream = lab.client.enter(|| TcpStream::connect(vip)).unwrap();
    let existing = json(&[&stream.local_addr().unwrap().to_string(), &vip.to_string()]);
    assert!(
        existing["reason"].as_str().unwrap().contains("existing connection"),
        "{existing}"
    );
    assert_eq!(existing["chosen"], known["chosen"]);

    let page = lab.explain(&["10.0.0.2", &vip.to_string()]).unwrap();
    let ingress = if mode == "xdp" { "xdp of eth0" } else { "tc-in of eth0" };
    for part in [
        "default/kubia:http, by its cluster IP",
        "ClientIP (10800 s): the client was given",
        ingress,
    ] {
        assert!(page.contains(part), "no {part:?} in\n{page}");
    }
    assert!(!page.contains('\x1b'), "colour without a terminal:\n{page}");
}

#[test]
fn explain_without_a_datapath_says_what_to_do() {
    let scenario = Scenario::new("tc");
    assert!(scenario.daemon.stop().unwrap().success());
    let question = ["10.0.0.2", "10.96.0.10:80"];
    assert!(scenario.lab.explain(&question).is_ok(), "it needs no running daemon");
    scenario.lab.cleanup().unwrap();
    let error = scenario.lab.explain(&question).unwrap_err().to_string();
    assert!(error.contains("with -f it is for manifests"), "{error}");
}
