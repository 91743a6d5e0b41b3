//! The table of escalations: each must be refused however it is spelt, and what people do every day must
//! not.

use super::*;

fn line(text: &str) -> Line {
    let (method, uri) = text.split_once(' ').unwrap();
    Line::new(&method.parse().unwrap(), &uri.parse().unwrap()).unwrap()
}

fn judged(request: &str, body: &str) -> Result<Vec<Lean>, String> {
    judge(&line(request), body.as_bytes())
}

/// Fields of HostConfig that make root of whoever may set them.
const FIELDS: [&str; 82] = [
    r#""Privileged":true"#,
    r#""Privileged":1"#,
    r#""Privileged":"true""#,
    r#""CapAdd":["SYS_ADMIN"]"#,
    r#""CapAdd":["CHOWN","cap_sys_ptrace"]"#,
    r#""CapAdd":["ALL"]"#,
    r#""CapAdd":"NET_ADMIN""#,
    r#""CapAdd":[["SYS_ADMIN"]]"#,
    r#""Capabilities":["CAP_SYS_ADMIN"]"#,
    r#""Devices":[{"PathOnHost":"/dev/sda","PathInContainer":"/dev/sda","CgroupPermissions":"rwm"}]"#,
    r#""DeviceRequests":[{"Count":-1}]"#,
    r#""DeviceCgroupRules":["a *:* rwm"]"#,
    r#""Binds":["/:/host"]"#,
    r#""Binds":["v:/v","/etc:/etc:ro"]"#,
    r#""Binds":["./x:/x"]"#,
    r#""Binds":["../etc:/x"]"#,
    r#""Binds":["~/x:/x"]"#,
    r#""Binds":["C:\\:/x"]"#,
    r#""Binds":["/"]"#,
    r#""Binds":"/:/host""#,
    r#""Binds":{"/":"/host"}"#,
    r#""Mounts":[{"Type":"bind","Source":"/","Target":"/host"}]"#,
    r#""Mounts":[{"Type":"volume","Type":"bind","Source":"/","Target":"/host"}]"#,
    r#""Mounts":[{"Type":"bind","Source":"/","Target":"/host","type":"volume"}]"#,
    r#""Mounts":[{"Source":"/","Target":"/host"}]"#,
    r#""Mounts":[{"Type":"volume","Source":"/etc","Target":"/host"}]"#,
    r#""Mounts":[{"Type":"npipe","Source":"x","Target":"/x"}]"#,
    r#""Mounts":[{"Type":"volume","Target":"/x","BindOptions":{"Propagation":"rshared"}}]"#,
    r#""Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"none","o":"bind","device":"/"}}}}]"#,
    r#""Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"evil"}}}]"#,
    r#""Mounts":{"Type":"bind"}"#,
    r#""Mounts":["bind"]"#,
    r#""Mounts":[{"Type":"image","Type":"volume","Source":"a/b","Target":"/x"}]"#,
    r#""Mounts":[{"Type":"volume","Source":"a/b","Target":"/x"}]"#,
    r#""VolumesFrom":["../x"]"#,
    r#""VolumesFrom":[["x"]]"#,
    r#""NetworkMode":"container:a/b""#,
    r#""PidMode":"container:""#,
    r#""PidMode":"host""#,
    r#""PidMode":"HOST""#,
    r#""IpcMode":"host""#,
    r#""NetworkMode":"host""#,
    r#""NetworkMode":"Host""#,
    r#""NetworkMode":"0123456789ab""#,
    r#""NetworkMode":"ns:/proc/1/ns/net""#,
    r#""NetworkMode":["host"]"#,
    r#""UTSMode":"host""#,
    r#""UsernsMode":"host""#,
    r#""CgroupnsMode":"host""#,
    r#""Cgroup":"host""#,
    r#""SecurityOpt":["seccomp=unconfined"]"#,
    r#""SecurityOpt":["seccomp:unconfined"]"#,
    r#""SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]"#,
    r#""SecurityOpt":["apparmor=unconfined"]"#,
    r#""SecurityOpt":["apparmor:unconfined"]"#,
    r#""SecurityOpt":["label=disable"]"#,
    r#""SecurityOpt":["label:disable"]"#,
    r#""SecurityOpt":["label=type:spc_t"]"#,
    r#""SecurityOpt":["no-new-privileges=false"]"#,
    r#""SecurityOpt":["no-new-privileges:false"]"#,
    r#""SecurityOpt":["systempaths=unconfined"]"#,
    r#""SecurityOpt":["writable-cgroups=true"]"#,
    r#""SecurityOpt":"seccomp=unconfined""#,
    r#""CgroupParent":"/""#,
    r#""Sysctls":{"kernel.core_pattern":"|/x"}"#,
    r#""Sysctls":{"net.ipv4.ip_forward":"1","kernel.shm_rmid_forced":"1"}"#,
    r#""Sysctls":{"net./../kernel/core_pattern":"x"}"#,
    r#""Runtime":"evil""#,
    r#""MaskedPaths":[]"#,
    r#""MaskedPaths":["/proc/kcore"]"#,
    r#""ReadonlyPaths":[]"#,
    r#""OomScoreAdj":-1"#,
    r#""OomScoreAdj":"-1000""#,
    r#""VolumeDriver":"evil""#,
    r#""LogConfig":{"Type":"syslog","Config":{"syslog-address":"unix:///run/docker.sock"}}"#,
    r#""Annotations":{"run.oci.hooks.stdout":"/etc/cron.d/x"}"#,
    r#""Unheard":true"#,
    // As Go reads them.
    r#""privileged":true"#,
    r#""PRIVILEGED":true"#,
    r#""Privileged":false,"pRivileged":true"#,
    r#""Privileged":true,"Privileged":false"#,
    "\"Ma\u{17f}\u{212a}edPath\u{17f}\":[]",
];

#[test]
fn a_container_cannot_be_made_to_escape() {
    for field in FIELDS {
        for body in [
            format!(r#"{{"Image":"x","HostConfig":{{{field}}}}}"#),
            format!(r#"{{"Image":"x","hostconfig":{{{field}}}}}"#),
            format!(r#"{{"HostConfig":{{{field}}},"HostConfig":{{}}}}"#),
            format!(r#"{{"HostConfig":{{}},"hOSTcONFIG":{{{field}}}}}"#),
            // Engines take the fields beside HostConfig too.
            format!(r#"{{"Image":"x",{field}}}"#),
        ] {
            for path in
                ["/containers/create", "/v1.41/containers/create?name=x", "//containers/create"]
            {
                let why = judged(&format!("POST {path}"), &body);
                assert!(why.is_err(), "{body}");
            }
        }
        let update = judged("POST /containers/x/update", &format!("{{{field}}}"));
        assert!(update.is_err(), "update: {field}");
        let start = judged("POST /v1.23/containers/x/start", &format!("{{{field}}}"));
        assert!(start.is_err(), "start: {field}");
    }
}

#[test]
fn no_other_way_leads_out_either() {
    for (request, body) in [
        ("POST /containers/create", ""),
        ("POST /containers/create", "null"),
        ("POST /containers/create", "[]"),
        ("POST /containers/create", "{} {}"),
        ("POST /containers/create", "Privileged=true"),
        ("POST /containers/create", r#"{"HostConfig":[]}"#),
        ("POST /containers/create", r#"{"NetworkingConfig":{"EndpointsConfig":{"host":{}}}}"#),
        ("POST /containers/create", r#"{"NetworkingConfig":{"EndpointsConfig":{"0af1":{}}}}"#),
        (
            "POST /containers/create",
            r#"{"NetworkingConfig":{"EndpointsConfig":{"container:x":{}}}}"#,
        ),
        ("POST /containers/x/update", ""),
        ("POST /networks/create", ""),
        ("POST /networks/create", r#"{"Name":"n","Driver":"macvlan"}"#),
        ("POST /networks/x/connect", "{}"),
        ("POST /containers/x/exec", r#"{"Cmd":["sh"],"Privileged":true}"#),
        ("POST /containers/x/exec", r#"{"Cmd":["sh"],"privileged":true,"Privileged":false}"#),
        ("POST /containers/x/exec", r#"{"Cmd":["sh"],"Unheard":1}"#),
        ("POST /containers/x/exec", ""),
        ("POST /containers/x/start?checkpoint=c&checkpoint-dir=/tmp", ""),
        ("POST /containers/x/checkpoints", r#"{"CheckpointID":"c","CheckpointDir":"/etc"}"#),
        ("POST /containers/x/copy", r#"{"Resource":"/"}"#),
        (
            "POST /volumes/create",
            r#"{"Name":"v","DriverOpts":{"type":"none","o":"bind","device":"/"}}"#,
        ),
        ("POST /volumes/create", r#"{"Name":"v","driveropts":{"device":"/dev/sda"}}"#),
        ("POST /volumes/create", r#"{"Name":"v","Driver":"evil"}"#),
        ("POST /volumes/create", r#"{"Name":"v","ClusterVolumeSpec":{"Group":"g"}}"#),
        ("POST /volumes/create", "x"),
        ("PUT /volumes/v", "{}"),
        ("POST /build?networkmode=host", ""),
        ("POST /build?networkmode=default&networkmode=host", ""),
        ("POST /build?networkmode=%68ost", ""),
        ("POST /build?networkmode=container:x", ""),
        ("POST /build?q=1;networkmode=host", ""),
        ("POST /build?securityopt=%5B%22seccomp%3Dunconfined%22%5D", ""),
        ("POST /build?entitlements=security.insecure", ""),
        ("POST /build?cgroupparent=/", ""),
        ("POST /build?remote=http://169.254.169.254/", ""),
        ("POST /build?version=2", ""),
        ("POST /build?session=abc", ""),
        ("POST /build?outputs=%5B%7B%22Type%22%3A%22local%22%7D%5D", ""),
        ("POST /images/create?fromSrc=http://169.254.169.254/", ""),
        ("POST /session", ""),
        ("POST /grpc", ""),
        ("POST /plugins/pull?remote=evil", "[]"),
        ("POST /plugins/evil/enable", ""),
        ("POST /plugins/create?name=evil", ""),
        ("GET /plugins/privileges?remote=evil", ""),
        ("POST /swarm/init", "{}"),
        ("POST /swarm/join", "{}"),
        ("POST /services/create", "{}"),
        ("POST /services/x/update", "{}"),
        ("POST /nodes/x/update", "{}"),
        ("POST /secrets/create", "{}"),
        ("GET /secrets", ""),
        ("POST /configs/create", "{}"),
        ("GET /tasks", ""),
        ("GET /debug/pprof/heap", ""),
        ("GET /metrics", ""),
        ("PATCH /containers/create", "{}"),
        ("PUT /containers/create", "{}"),
        ("POST /v1.41/v1.41/containers/create", "{}"),
        ("POST /unheard/of", ""),
    ] {
        assert!(judged(request, body).is_err(), "{request} {body}");
    }
}

#[test]
fn what_people_do_every_day_goes_on() {
    // As docker's client and docker compose send them.
    let create = r#"{"Hostname":"","User":"","AttachStdin":false,"Tty":true,"Env":["A=b"],
        "Cmd":["sh"],"Image":"x","Volumes":{"/data":{}},"WorkingDir":"","Entrypoint":null,
        "OnBuild":null,"Labels":{"a":"b"},"Healthcheck":{"Test":["CMD","true"]},
        "HostConfig":{"Binds":["data:/data:ro"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},
        "NetworkMode":"project_default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},
        "RestartPolicy":{"Name":"always","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"",
        "VolumesFrom":["other:ro"],"ConsoleSize":[0,0],"CapAdd":["NET_BIND_SERVICE","cap_chown"],
        "CapDrop":["ALL"],"CgroupnsMode":"","Dns":[],"ExtraHosts":["a:1.2.3.4"],"GroupAdd":["audio"],
        "IpcMode":"container:other","Cgroup":"","Links":["a:b"],"OomScoreAdj":500,
        "PidMode":"container:other","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":true,
        "SecurityOpt":["no-new-privileges:true"],"UTSMode":"","UsernsMode":"","ShmSize":0,
        "Tmpfs":{"/run":"size=1m"},"Runtime":"runc","Isolation":"","CpuShares":0,"Memory":1000000,
        "NanoCpus":500000000,"CgroupParent":"","BlkioWeightDevice":[],"Devices":[],
        "DeviceCgroupRules":null,"DeviceRequests":null,"PidsLimit":10,"Ulimits":[{"Name":"nofile"}],
        "Sysctls":{"net.core.somaxconn":"1024"},"Init":true,"MaskedPaths":null,"ReadonlyPaths":null,
        "Mounts":[{"Type":"volume","Source":"data","Target":"/d","VolumeOptions":{"NoCopy":true,
        "DriverConfig":{"Name":"local"}}},{"Type":"tmpfs","Target":"/t"},
        {"Type":"image","Source":"docker.io/library/x:1","Target":"/i"}]},
        "NetworkingConfig":{"EndpointsConfig":{"project_default":{"Aliases":["a"]}}}}"#;
    for (request, body) in [
        ("POST /v1.41/containers/create?name=x", create),
        ("POST /containers/create", r#"{"Image":"x","HostConfig":null}"#),
        ("POST /networks/create", r#"{"Name":"n","Driver":"bridge"}"#),
        ("POST /networks/x/connect", r#"{"Container":"c","EndpointConfig":{}}"#),
        ("POST /containers/x/start", ""),
        ("POST /containers/x/start", "null"),
        ("POST /containers/x/update", r#"{"Memory":1,"RestartPolicy":{"Name":"no"}}"#),
        ("POST /containers/x/exec", r#"{"Cmd":["sh"],"Tty":true,"Privileged":false,"User":"0"}"#),
        ("POST /exec/x/start", r#"{"Detach":false}"#),
        ("POST /volumes/create", ""),
        (
            "POST /volumes/create",
            r#"{"Name":"v","Driver":"local","DriverOpts":{},"Labels":{"a":""}}"#,
        ),
        ("POST /build?t=x&networkmode=default&version=1&remote=&rm=1&target=&cgroupparent=", ""),
        ("POST /build?networkmode=none&buildargs=%7B%7D", ""),
        ("POST /images/create?fromImage=x&tag=1", ""),
        ("POST /images/create?fromSrc=-&repo=x", ""),
        ("GET /images/registry.example/a/b:1/json", ""),
        ("POST /commit?container=x", "{}"),
        ("PUT /containers/x/archive?path=/", ""),
        ("HEAD /_ping", ""),
        ("GET /v1.41/events", ""),
    ] {
        assert!(judged(request, body).is_ok(), "{request} {body}: {:?}", judged(request, body));
    }
}

#[test]
fn what_is_there_already_is_told() {
    let of = |name: &str| Lean::Container(name.to_owned());
    let volume = |name: &str| Lean::Volume(name.to_owned());
    let create = r#"{"Image":"x","PidMode":"container:beside","HostConfig":{"Binds":["data:/d:ro"],
        "NetworkMode":"container:net","IpcMode":"container:ipc","VolumesFrom":["from:ro","0af1"],
        "Mounts":[{"Type":"volume","Source":"v2","Target":"/v"},{"Type":"tmpfs","Target":"/t"},
        {"Type":"volume","Target":"/anonymous"},{"Type":"image","Source":"a/b:1","Target":"/i"}]}}"#;
    for (request, body, leans) in [
        (
            "POST /containers/create",
            create,
            vec![
                of("beside"),
                of("net"),
                of("ipc"),
                of("from"),
                of("0af1"),
                volume("data"),
                volume("v2"),
            ],
        ),
        ("POST /containers/create", r#"{"HostConfig":{"NetworkMode":"bridge"}}"#, Vec::new()),
        ("POST /v1.41/containers/x/exec", r#"{"Cmd":["sh"]}"#, vec![of("x")]),
        ("POST /containers/x/attach", "", vec![of("x")]),
        ("GET /containers/x/attach/ws", "", vec![of("x")]),
        ("GET /containers/x/archive", "", vec![of("x")]),
        ("HEAD /containers/x/archive", "", Vec::new()),
        ("PUT /containers/%78/archive", "", vec![of("x")]),
        ("POST /containers/x/rename?name=y", "", vec![of("x")]),
        ("POST /exec/e/start", "{}", vec![Lean::Exec("e".to_owned())]),
        (
            "POST /networks/n/connect",
            r#"{"Container":"x"}"#,
            vec![Lean::Network("n".to_owned()), of("x")],
        ),
        ("GET /containers/x/json", "", Vec::new()),
        ("GET /containers/x/logs", "", Vec::new()),
        ("POST /containers/x/start", "", Vec::new()),
    ] {
        assert_eq!(judged(request, body), Ok(leans), "{request} {body}");
    }
}

#[test]
fn bodies_are_read_where_they_decide() {
    for request in [
        "POST /containers/create",
        "POST /containers/x/update",
        "POST /containers/x/exec",
        "POST /containers/x/start",
        "POST /volumes/create",
        "POST /networks/create",
        "POST /networks/x/connect",
    ] {
        assert!(reads_body(&line(request)), "{request}");
    }
    for request in ["POST /build", "PUT /containers/x/archive", "POST /images/load"] {
        assert!(!reads_body(&line(request)), "{request}");
    }
    assert!(is_form("Application/X-WWW-form-urlencoded; charset=x"));
    assert!(is_form("multipart/form-data"));
    assert!(!is_form("application/json"));
}
