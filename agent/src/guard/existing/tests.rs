//! What the engine says of containers and volumes that a host's owner has made: which give the host away,
//! and which do not.

use super::*;

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
}

/// As Docker 20.10 tells of a container with these fields in the place of its own.
fn told(fields: &str, mounts: &str, networks: &str) -> Json {
    json(&format!(
        r#"{{"Id":"{}","HostConfig":{{{fields}"Binds":null,"ContainerIDFile":"",
        "LogConfig":{{"Type":"fluentd","Config":{{"a":"b"}}}},"PortBindings":{{}},
        "RestartPolicy":{{"Name":"","MaximumRetryCount":0}},"CapAdd":null,"CgroupnsMode":"host",
        "Dns":[],"OomScoreAdj":-5,"Privileged":false,"SecurityOpt":null,"UTSMode":"",
        "ShmSize":67108864,"Runtime":"io.containerd.runc.v2","ConsoleSize":[0,0],"Devices":null}},
        "Mounts":[{mounts}],"NetworkSettings":{{"Networks":{{{networks}}}}}}}"#,
        "0".repeat(64),
    ))
}

#[test]
fn containers_with_the_host_in_them_give_it_away() {
    for field in [
        r#""Privileged":true"#,
        r#""CapAdd":["SYS_ADMIN"]"#,
        r#""CapAdd":["CAP_SYS_PTRACE"]"#,
        r#""Binds":["/:/h"]"#,
        r#""Binds":["/var/run/docker.sock:/s"]"#,
        r#""Mounts":[{"Type":"bind","Source":"/","Target":"/h"}]"#,
        r#""PidMode":"host""#,
        r#""IpcMode":"host""#,
        r#""NetworkMode":"host""#,
        r#""UTSMode":"host""#,
        r#""UsernsMode":"host""#,
        r#""Devices":[{"PathOnHost":"/dev/sda"}]"#,
        r#""DeviceRequests":[{"Count":-1}]"#,
        r#""DeviceCgroupRules":["a *:* rwm"]"#,
        r#""SecurityOpt":["seccomp=unconfined"]"#,
        r#""SecurityOpt":["label=disable"]"#,
        r#""MaskedPaths":[]"#,
        r#""ReadonlyPaths":[]"#,
        r#""ReadonlyPaths":["/proc/bus"]"#,
        r#""Unheard":1"#,
    ] {
        assert!(container(&told(&format!("{field},"), "", "")).is_err(), "{field}");
    }
    // From another container, with nothing of it in its own HostConfig.
    let socket = r#"{"Type":"bind","Source":"/var/run/docker.sock","Destination":"/s","RW":true}"#;
    let why = container(&told(r#""VolumesFrom":["agent"],"#, socket, "")).unwrap_err();
    assert_eq!(why, r#"the mount "/var/run/docker.sock""#);
    for mount in [r#"{"Type":"npipe"}"#, r#"{"Source":"/"}"#, r#"{"Type":"volume"}"#, "1"] {
        assert!(container(&told("", mount, "")).is_err(), "{mount}");
    }
    // Made with the id of the host's network.
    let network = format!(r#""NetworkMode":"{}","#, "a".repeat(64));
    assert!(container(&told(&network, "", r#""host":{"IPAddress":""}"#)).is_err());
    for nothing in ["{}", "[]", r#"{"HostConfig":null}"#, r#"{"HostConfig":"x"}"#] {
        assert!(container(&json(nothing)).is_err(), "{nothing}");
    }
}

#[test]
fn others_do_not_and_what_they_lean_on_is_told() {
    let plain = r#""MaskedPaths":["/proc/asound","/proc/kcore","/sys/firmware"],"IpcMode":"private",
        "ReadonlyPaths":["/proc/bus","/proc/sys","/proc/sysrq-trigger"],"NetworkMode":"project_x",
        "VolumesFrom":["other"],"CapAdd":["NET_BIND_SERVICE"],"CapDrop":["ALL"],"#;
    let mounts = r#"{"Type":"volume","Name":"data","Source":"/var/lib/docker/volumes/data/_data"},
        {"Type":"tmpfs","Destination":"/t"}"#;
    let leans = container(&told(plain, mounts, r#""project_x":{}"#));
    assert_eq!(leans, Ok(vec![Lean::Volume("data".to_owned())]));
    let of = |name: &str| Lean::Container(name.to_owned());
    let shared = r#""NetworkMode":"container:a","PidMode":"container:b","IpcMode":"container:c","#;
    assert_eq!(container(&told(shared, "", "")), Ok(vec![of("a"), of("b"), of("c")]));
}

#[test]
fn volumes() {
    let told = |driver: &str, options: &str| {
        volume(&json(&format!(r#"{{"Name":"v","Driver":"{driver}","Options":{options}}}"#)))
    };
    for options in [
        "null",
        "{}",
        r#"{"o":"size=1g"}"#,
        r#"{"type":"nfs","o":"addr=192.0.2.1,rw","device":":/export"}"#,
        r#"{"type":"tmpfs","o":"size=1m","device":"tmpfs"}"#,
    ] {
        assert_eq!(told("local", options), Ok(()), "{options}");
    }
    for options in [
        r#"{"type":"none","o":"bind","device":"/"}"#,
        r#"{"type":"nfs","o":"bind","device":"/"}"#,
        r#"{"type":"tmpfs","o":"rw, rbind","device":"/"}"#,
        r#"{"type":"ext4","device":"/dev/sda1"}"#,
        r#"{"device":"/"}"#,
    ] {
        assert!(told("local", options).is_err(), "{options}");
    }
    assert!(told("evil", "{}").is_err());
    assert!(volume(&json("{}")).is_err());
}

#[test]
fn execs_networks_and_writers() {
    let told = |privileged| {
        exec(&json(&format!(
            r#"{{"ContainerID":"c","ProcessConfig":{{"privileged":{privileged}}}}}"#
        )))
    };
    assert_eq!(told(false), Ok(Lean::Container("c".to_owned())));
    assert!(told(true).is_err() && exec(&json("{}")).is_err());
    assert!(network(&json(r#"{"Name":"host","Driver":"host"}"#)).is_err());
    assert_eq!(network(&json(r#"{"Name":"n","Driver":"bridge"}"#)), Ok(()));
    let told = json(r#"{"Mounts":[{"Name":"a","RW":true},{"Name":"b","RW":false},{"Name":"c"}]}"#);
    assert_eq!(["a", "b", "c", "d"].map(|v| writes(&told, v)), [true, false, true, false]);
}

#[test]
fn names_become_ids_and_nothing_else_changes() {
    let of = |name: &str| Lean::Container(name.to_owned());
    let ids: Ids = [(of("a"), "1"), (of("create"), "2"), (Lean::Network("n".to_owned()), "3")]
        .map(|(lean, id)| (lean, id.to_owned()))
        .into();
    for (came, sent) in [
        ("POST /v1.41/containers/a/exec?x=y", "/v1.41/containers/1/exec?x=y"),
        ("GET /containers/a/archive?path=/a", "/containers/1/archive?path=/a"),
        ("POST /containers/create?name=a", "/containers/create?name=a"),
        ("POST /containers/create/attach", "/containers/2/attach"),
        ("POST /networks/n/connect", "/networks/3/connect"),
        ("POST /networks/a/connect", "/networks/a/connect"),
    ] {
        let (method, uri) = came.split_once(' ').unwrap();
        let line = Line::new(&method.parse().unwrap(), &uri.parse().unwrap()).unwrap();
        assert_eq!(line_by_id(&line, &ids).target(), sent, "{came}");
    }
    let body = r#"{"HostConfig":{"Memory":9007199254740993,"networkMode":"container:a",
        "NetworkMode":"a","PIDMODE":"container:b","VolumesFrom":["a:ro","create","a"],
        "CpuRealtimePeriod":-1},"Labels":{"A":"a"},"Env":["a"],"IpcMode":"container:a"}"#;
    let sent = r#"{"HostConfig":{"Memory":9007199254740993,"networkMode":"container:1",
        "NetworkMode":"a","PIDMODE":"container:b","VolumesFrom":["1:ro","2","1"],
        "CpuRealtimePeriod":-1},"Labels":{"A":"a"},"Env":["a"],"IpcMode":"container:1"}"#;
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    assert_eq!(value(&body_by_id(body.as_bytes(), &ids).unwrap()), value(sent.as_bytes()));
    let joined = body_by_id(br#"{"Container":"a"}"#, &ids).unwrap();
    assert_eq!(joined, br#"{"Container":"1"}"#);
    assert_eq!(body_by_id(body.as_bytes(), &Ids::new()), None);
}
