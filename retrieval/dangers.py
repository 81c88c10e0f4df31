"""What is forbidden, as an ordered table: the first rule that matches names the ruling.

Patterns are read against the plain text that `policy.plain` makes: small Latin letters, single
blanks, no quotes, one step a line. To add a rule, add it here and a case to its test.
"""

from dataclasses import dataclass

from retrieval.patterns import B, E, any_of, things, verbs

# Word boundaries and exceptions. A forbidden pattern is also read with all of these taken out,
# to find what merely resembles it: so they are written as these constants and in no other way.
UNLESS_PART_OF_IT = (  # the lock of a table, the mount of a volume
    r"(?! (?:mount|limit|quota|polic|lock|connection|pool|pod|entry|entries|row|record|user|role"
    r"|label|annotation|alarm|dashboard|metric|cache|prox|node|rule|hint|trigger|index|view"
    r"|session|container|replica|link)(?:s|es|y|ies)?(?![\w-]))"
)
UNLESS_TAKEN_ASIDE = r"(?! from (?:the |our )?(?:rotation|pool|load|lb|service|traffic|routing))"
UNLESS_CACHED = r"(?! (?:from|in) (?:the |our )?(?:[\w-]{1,30} )?cache)"
UNLESS_WHERE = r"(?![^\n]{0,400} where )"
UNLESS_PROSE = r"(?!(?:the|a|our) )"
UNLESS_A_LOG = r"(?! (?:-s|--size)| (?:[\w./-]{1,60} ){0,3}[\w./-]{0,60}(?:log|file)s?(?![\w-]))"
# The exceptions before the boundaries that they are made of.
LOOKS_AROUND = (
    UNLESS_PART_OF_IT,
    UNLESS_TAKEN_ASIDE,
    UNLESS_CACHED,
    UNLESS_WHERE,
    UNLESS_PROSE,
    UNLESS_A_LOG,
    B,
    E,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Its id, the sentence that a person reads, and the patterns of which one must occur."""

    id: str
    why: str
    patterns: tuple[str, ...] = ()


# What may stand between a verb and its object. A preposition, or another thing, ends the reach:
# "delete the pod on the volume" is about a pod.
_ENDS_REACH = any_of(
    "in on from at to for with by if when after before and or then but that which using into onto"
    " via inside within it them pod pods connection connections session sessions lock locks node"
    " nodes job jobs process processes container containers message messages deployment deployments"
    " replica replicas label labels annotation annotations rule rules mount mounts"
)
_REACH = rf"(?: (?!{_ENDS_REACH} )[\w./:@%<>=-]{{1,60}}){{0,5}}"
# "... the pod and its volume" is about a volume too.
_ALSO = (
    r"(?: [\w./:@-]{1,60}){1,4}?(?:,|,? and|,? or| &)"
    r"(?: the| all| its| their| any| old| every| our| each| both){0,2}"
)
TO = rf"(?:{_REACH}|{_ALSO}) "
FEW = r"(?:[\w*:./-]{1,40} ){0,4}"  # up to four words of any kind

_DESTROY = (
    verbs(
        "delet destroy wip wip_out purg eras nuk shred obliterat annihilat blow_away zero_out"
        " get_rid_of tear_down clear_out overwrit"
    )
    + r"|(?:deletion|destruction|erasure) of|blew away|got rid of|tore down|overwrote|del"
)
_REMOVE = verbs("remov drop trash discard expung") + "|removal of"
_STORED = things(
    "volume persistent_volume persistentvolume persistent_volume_claim persistentvolumeclaim pvc"
    " pv disk drive partition filesystem file_system bucket blob_container storage_account database"
    " db schema keyspace table tablespace collection namespace cluster snapshot backup back-up"
    " recovery_point wal binlog dataset data_set data data_directory data_directories"
    " home_directory indices topic ledger repository repositories repo tenant subscription"
    " resource_group cloud_account aws_account kms_key encryption_key vault audit audit_log"
    " audit_trail audit_history dns_zone hosted_zone state_file tfstate everything"
)
_MUST_GO = (
    r"(?: [\w-]{1,40}){0,2} (?:should|must|needs?|shall|ought|is to|are to|has to|have to)"
    r"(?: to)?(?: be)? (?:delet|destroy|wip|purg|eras|nuk|shredd|dropp|truncat|formatt)(?:ed|ing)"
)
_FETCH = any_of("curl wget fetch iwr irm invoke-webrequest base64 xxd openssl")
_SHELL = (
    r"(?:sudo )?(?:\S{0,40}/)?(?:(?:ba|z|da|k|c|fi)?sh|python[\d.]{0,4}|perl|ruby|node|php|pwsh)"
)
_SWITCH_OFF = (
    verbs(
        "disabl deactivat bypass circumvent turn_off switch_off shut_off skip tak_down run_without"
        " unset"
    )
    + "|opt out of"
)
_GUARDS = things(
    "auth authn authz authentication authorization authorisation mfa 2fa sso rbac tls mtls ssl"
    " https certificate cert_check cert_verification cert_validation encryption audit auditing"
    " auditd audit_log audit_logging firewall firewalld ufw iptables waf selinux apparmor seccomp"
    " edr antivirus anti-virus backup back-up alert alerting alarm monitoring network_policy"
    " network_policies signature_check signature_verification host_key_checking deletion_protection"
    " access_control security"
)
_LOCKS = any_of("auth authentication authorization tls ssl mfa 2fa encryption rbac auditing audit")
SECRETS = things(
    "secret password passwd passphrase credential cred api_key api-key apikey access_key"
    " private_key ssh_key token api_token access_token auth_token id_rsa id_ed25519 kubeconfig"
    " /etc/shadow .env .aws/credentials"
)
_POWER = any_of(
    "admin administrator admins administrators cluster-admin admin_rights admin_access root"
    " superuser owner ownership sudo all_privileges all_permissions all_rights all_access"
    " full_access full_control write_access"
)
_EVERYBODY = any_of(
    "all every everyone everybody anyone anybody public the_public the_world anonymous allusers *"
    " system:authenticated system:unauthenticated system:anonymous system:serviceaccounts"
    " authenticated_users the_entire the_whole"
)
_SEND = verbs("send post upload email mail past publish leak broadcast commit push forward shar")
_ELSEWHERE = any_of(
    "slack chat channel ticket pastebin gist public wiki log logs email github everyone outside"
)

FORBIDDEN = (
    Rule(
        "destroys-files",
        "It deletes files recursively or by force, which cannot be undone.",
        (
            rf"{B}rm (?:\S{{1,60}} ){{0,3}}--?[a-z-]{{0,12}}[rf]",
            rf"{B}rm (?:\S{{1,60}} ){{0,3}}(?:\S{{0,60}}\*|/)",
            rf"{B}xargs (?:\S{{1,20}} ){{0,4}}rm{E}",
            r"-exec (?:sudo )?rm",
            rf"{B}find [^\n|]{{1,200}} -delete",
            rf"{B}rsync [^\n]{{0,120}}--delete",
            rf"{B}(?:rd|rmdir|del) /[sq]",
            r"remove-item [^\n]{0,80}-(?:recurse|force)",
            rf"{B}shred -|rimraf|shutil\.rmtree|recursively (?:delet|remov)",
        ),
    ),
    Rule(
        "formats-a-disk",
        "It overwrites a disk or a partition, and what was on it is gone.",
        (
            r"mkfs|wipefs|blkdiscard|luksformat|nvme format|mkswap|sgdisk -z",
            rf"{B}dd [^\n]{{0,120}}of=",
            r"> ?/dev/(?:sd|nvme|vd|xvd|hd|disk|mapper)",
            rf"{B}(?:lv|vg|pv)remove|(?:zpool|zfs) destroy|diskpart [^\n]{{0,40}}clean",
        ),
    ),
    Rule(
        "drops-a-table",
        "It drops or empties a table or a database; only a backup would bring the rows back.",
        (
            rf"{B}drop[ _](?:table|database|schema|keyspace|tablespace|collection|owned)",
            r"dropdb|dropdatabase|dropcollection|flushall|flushdb|_delete_by_query",
            rf"{B}{verbs('truncat')}{UNLESS_A_LOG} \S",
            rf"{B}delete from {UNLESS_PROSE}[\w.]{{1,80}}{UNLESS_WHERE}",
            r"(?:deletemany|remove)\(\{ ?\}",
        ),
    ),
    Rule(
        "destroys-infrastructure",
        "It tears down infrastructure together with the data that it holds.",
        (
            rf"kubectl [^\n]{{0,60}}delete [^\n]{{0,60}}{B}"
            rf"(?:{any_of('ns namespace namespaces pvc pv crd crds')}{E}"
            rf"|persistentvolume)",
            r"kubectl [^\n]{0,60}delete [^\n]{0,60}--all",
            r"(?:terraform|tofu|terragrunt|pulumi|cdk) [^\n]{0,60}destroy"
            r"|apply [^\n]{0,60}-destroy",
            r"(?:aws s3|gsutil|gcloud storage|s3cmd|rclone) (?:\S{1,20} ){0,3}"
            r"(?:rb|rm|purge|delete)",
            r"az group delete|projects delete|(?:eksctl|kops|kind|doctl) [^\n]{0,60}delete cluster",
            r"(?:clusters|instances|volumes|disks|snapshots|databases|buckets) delete",
            r"delete-(?:db|bucket|volume|snapshot|table|stack|file-system|cluster|backup)",
            r"docker (?:system|volume) prune|etcdctl [^\n]{0,40}del [^\n]{0,60}--prefix",
            r"schedule-key-deletion|kafka-topics[^\n]{0,80}--delete",
        ),
    ),
    Rule(
        "destroys-data",
        "It destroys stored data or its backups, which no rollback brings back.",
        (
            rf"{B}(?:{_DESTROY}){TO}{B}{_STORED}{E}{UNLESS_PART_OF_IT}{UNLESS_CACHED}",
            rf"{B}(?:{_REMOVE}){TO}{B}{_STORED}{E}{UNLESS_PART_OF_IT}{UNLESS_CACHED}"
            rf"{UNLESS_TAKEN_ASIDE}",
            # "Empty" and "format" are also said of what is so: look for somebody doing it.
            rf"{B}{verbs('empt format')} (?:the|all|our|its|this){TO}{B}{_STORED}{E}",
            rf"{B}{_STORED}{_MUST_GO}",
            rf"{B}{verbs('destroy wip nuk eras')}(?: the| all| our){{0,2}} prod(?:uction)?{E}",
        ),
    ),
    Rule(
        "rewrites-history",
        "It overwrites shared history, and with it other people's work.",
        (
            rf"(?:git )?push (?:[^\n]{{0,120}} )?(?:--force|--mirror|-[a-z]{{0,3}}f{E}|\+\w)",
            r"force[- ]?push|filter-branch|filter-repo|reflog expire",
        ),
    ),
    Rule(
        "opens-permissions",
        "It lets everybody write, or opens a system to the whole internet.",
        (
            r"chmod (?:\S{1,20} ){0,3}[0-7]?(?:777|776|767|666|757|773|722)",
            r"chmod (?:\S{1,20} ){0,3}(?:a|o|go|ugo|)\+[a-z]{0,2}w",
            r"world[- ]writable|0\.0\.0\.0/0|::/0|public-read",
            rf"{B}{verbs('mak')} {FEW}(?:public|world-readable){E}",
            rf"{B}{verbs('open expos')} {FEW}to (?:the )?(?:world|internet|public|anyone|everyone)",
        ),
    ),
    Rule(
        "runs-unseen-code",
        "It runs code that nobody has read, straight from where it was fetched.",
        (
            rf"{B}{_FETCH} [^\n]{{0,400}}\| ?{_SHELL}{E}",
            rf"{_SHELL} (?:-\S{{1,10}} )?<? ?[<$]\( ?{_FETCH}",
            rf"eval [$( ]{{0,3}}{_FETCH}|invoke-expression|{B}iex ?\(",
            rf"\| ?(?:sudo )?(?:ba|z|da|k)?sh{E}",
        ),
    ),
    Rule(
        "disables-protection",
        "It switches off what guards or watches the system.",
        (
            rf"{B}(?:{_SWITCH_OFF}){TO}{B}{_GUARDS}{E}",
            rf"{B}{verbs('turn switch shut')}{TO}{B}{_GUARDS} (?:[\w-]{{1,30}} ){{0,2}}off{E}",
            rf"{B}{verbs('remov strip drop loosen')}{TO}{B}{_LOCKS}{E}",
            rf"{B}{verbs('stop')} (?:(?:the|all|our|any|taking|sending|making) ){{0,3}}"
            + any_of("backups back-ups alerts alerting auditing audit_logging firewall auditd")
            + E,
            r"systemctl (?:stop|disable|mask) (?:--now )?"
            + any_of("firewalld auditd ufw apparmor fail2ban falco iptables nftables"),
            rf"setenforce (?:0|permissive)|ufw disable|nft flush"
            rf"|iptables (?:\S{{1,20}} ){{0,3}}(?:-f{E}|--flush)",
            r"--skip-grant-tables|--insecure|insecureskipverify|verify ?= ?false|tls-verify=false",
            r"sslmode=disable|reject_unauthorized ?= ?0|stricthostkeychecking[ =]no"
            r"|sslverify[ =]false",
            rf"{B}{_GUARDS}(?:[._ ]enabled)? ?(?:=|:| to) ?(?:false|off|none|disabled|no){E}",
            rf"history -c{E}",
        ),
    ),
    Rule(
        "grants-everything",
        "It gives unlimited rights, or gives rights to everybody.",
        (
            rf"{B}(?:{verbs('grant giv mak assign promot bind allow')}|gave|made)"
            rf" {FEW}{_EVERYBODY} {FEW}{B}{_POWER}{E}",
            rf"{B}(?:{verbs('grant giv assign bind add')}|gave)"
            rf" {FEW}{B}{_POWER} {FEW}(?:to|for) {_EVERYBODY}{E}",
            rf"grant all (?:privileges )?on \*|{B}grant [^\n]{{0,80}} to public",
            r"nopasswd: ?all|cluster-admin[^\n]{0,120}--group",
            r"(?:principal|action): ?\*",
        ),
    ),
    Rule(
        "leaks-secrets",
        "It takes secrets to where others can read them.",
        (
            r"exfiltrat",
            rf"{B}(?:{_SEND}|sent){TO}{SECRETS}{E}",
            rf"{B}(?:{verbs('copy copi writ log print echo dump put')}|wrote){TO}{SECRETS}{E}"
            rf"[^\n]{{0,40}} (?:to|in|into|on) {FEW}{_ELSEWHERE}",
            rf"{B}(?:curl|wget|nc|scp|ftp) [^\n]{{0,200}}{SECRETS}{E}",
            rf"{SECRETS}[^\n]{{0,80}}\| ?(?:curl|nc|wget|mail)",
        ),
    ),
    Rule(
        "kills-the-host",
        "It takes down a whole machine, this service and its neighbours with it.",
        (
            r":\(\) ?\{|:\|:|/proc/sysrq-trigger",
            rf"kill (?:-\S{{1,8}} ){{1,2}}-?1{E}",
            r"(?:userdel|deluser) (?:-\S{1,8} )?root|> ?/etc/(?:passwd|shadow|sudoers|fstab)",
        ),
    ),
)

# What stands right before a forbidden act when the text warns of it. Only these few words may come
# between: "do not panic, rm -rf /" and "do not hesitate to delete the volume" are no warnings.
NEGATION = (
    r"(?<![\w-])(?:(?:do|does|did|should|must|may|can|will|would|could) ?not"
    r"|(?:do|does|did|should|must|ca|wo)nt|not|never|avoid|avoids|avoided|without|refrain from"
    r"|instead of|rather than)(?![\w-])"
)
WARNS = (
    NEGATION
    + r",?(?: "
    + any_of(
        "ever to be please under_any_circumstances at_all try_to attempt_to run running use using"
        " execute executing accidentally manually simply the a any command by_hand sudo"
    )
    + r",?){0,4} ?$"
)

WARNING = Rule(
    "warns-of-danger",
    "It warns of something dangerous, so a person reads it before anybody acts.",
)
