"""What only looks, and what changes something, as tables that `policy` reads.

To add a kind of change, add a rule here and a case to its test; a verb that no table knows
needs approval anyway.
"""

from retrieval.dangers import FEW, SECRETS, Rule
from retrieval.patterns import B, E, any_of, things, verbs

DISGUISED = Rule(
    "disguised",
    "It hides characters, or mixes alphabets within a word: it may not say what it shows.",
)
UNKNOWN = Rule("unknown", "No rule knows this action, so a person decides.")
LOOK_UP = Rule("look-up", "It only looks, and changes nothing.")


def _does(stems: str) -> str:
    return B + verbs(stems) + E


_SHOWS = verbs("get show print cat read dump list fetch view echo describ less head tail grep copy")
CHANGES = (
    Rule(
        "reads-a-secret",
        "It shows a secret, which then stays in a terminal's history or in a log.",
        (rf"{B}{_SHOWS} {FEW}{SECRETS}{E}",),
    ),
    Rule(
        "changes-access",
        "It changes who may get in; whoever relies on the old way is locked out.",
        (
            _does("grant revok reissu rotat renew regenerat allowlist whitelist"),
            rf"{B}{verbs('reset expir chang updat replac add creat giv')} {FEW}"
            rf"(?:{SECRETS}|{things('cert certificate permission role privilege key access')}){E}",
        ),
    ),
    Rule(
        "restarts",
        "It restarts or stops something that may be serving right now.",
        (
            _does("restart re-start reboot bounc recycl kill terminat evict stop start"),
            _does("recreat pkill killall shutdown shut_down power_cycl power-cycl halt reset"),
        ),
    ),
    Rule(
        "rolls-back",
        "It puts an earlier version back, together with that version's own faults.",
        (rf"{B}(?:{verbs('roll_back rollback revert undo downgrad')}|undid|rollout undo){E}",),
    ),
    Rule(
        "scales",
        "It changes how much capacity there is.",
        (
            _does("scal resiz increas decreas reduc rais lower bump extend expand doubl"),
            rf"{B}{verbs('add provision grow')} {FEW}"
            + things("node replica shard instance capacity"),
        ),
    ),
    Rule(
        "moves-traffic",
        "It moves traffic or leadership elsewhere, which has to be able to carry it.",
        (
            _does(
                "fail_over failover switch promot demot drain cordon uncordon rerout divert direct"
            ),
            _does("redirect shift throttl block unblock isolat detach attach ban"),
        ),
    ),
    Rule(
        "deploys",
        "It puts other code or packages in place.",
        (
            _does("deploy redeploy roll_out rollout releas upgrad patch hotfix install"),
            _does("uninstall merg apply appl ship cherry-pick rebuild fix repair"),
        ),
    ),
    Rule(
        "changes-configuration",
        "It changes a setting.",
        (
            _does("chang edit set modify modif tun adjust configur reconfigur updat"),
            rf"{B}{verbs('turn switch')} {FEW}(?:on|off){E}",
            _does("enabl disabl toggl flip turn_on turn_off switch_on switch_off mut silenc"),
            _does("renam replac overrid mount unmount snooz suppress"),
        ),
    ),
    Rule(
        "clears-a-cache",
        "It throws away what was cached; the load comes back on what stands behind.",
        (_does("clear flush invalidat prun vacuum drop_caches"),),
    ),
    Rule(
        "changes-data",
        "It changes or removes what is stored.",
        (
            _does("delet remov purg wip truncat drop add creat insert writ mov restor"),
            _does("migrat backfill reindex replay requeu trim archiv compact import get_rid"),
            rf"{B}rm ",
        ),
    ),
    Rule(
        "runs-a-command",
        "It runs a command whose effect no rule knows.",
        (rf"{B}{verbs('execut exec ssh nsenter chroot')}{E}|{B}(?:sudo|eval) ",),
    ),
)
# What a command does besides looking, whatever its first word says.
EFFECTS = (
    r">(?! ?=? ?\d)|\$\(|\$\{|<\(",
    r"--(?:fix|force|write|apply|repair|yes|prune|vacuum|rotate|exec|delete|clear|flush|in-place)",
    rf"--output[= ][/.~]|{B}-(?:exec|delete|ok|execdir|fprint)|{B}sort [^|]{{0,80}}-o",
    rf"dmesg (?:-\w{{0,3}}c|--clear)|{B}ss -\w{{0,4}}k{E}|git \w{{1,10}} [^|]{{0,80}}--output",
    rf"{B}(?:check(?:ed)? out|git checkout){E}|(?:get|open) (?:an? )?(?:root )?shell"
    rf"|kubectl (?:exec|cp|run)",
)

STEP_BREAK = r"\t|&&?|\|\|?|,|:(?= |$)|[()]| (?:and|or|then|but|so|while)(?= |$)"
LEAD_IN = (
    r"^(?:(?:\d{1,2}[.)]|[-*•#$%]+|step \d{1,2}|on-?call|"
    + any_of(
        "please first second next then now also finally again just carefully manually quickly sudo"
        " run ran running execute executed use used try tried trying you we i they engineer"
        " engineers the team responders operators should must could always to lets let_us ok go"
        " begin_by start_by started_by by remember need needs"
    )
    + r") ){0,6}"
)
_SEE = verbs(
    "check inspect examin review observ monitor watch compar diff verif confirm validat describ"
    " list show measur count find search grep tail identif investigat analyz analys correlat view"
    " query quer see read get fetch look look_at look_for look_into look_up look_through wait"
)
LOOK = (
    rf"^(?:{_SEE}|saw|found|got|note"
    r"|open(?:ed)? (?:the )?(?:[\w-]{1,40} ){0,2}(?:dashboard|graph|runbook|log|trace)s?"
    r"|kubectl (?:-\S{1,20} ){0,2}(?:get|describe|logs?|top|events|explain|version|diff"
    r"|cluster-info|rollout (?:status|history))|helm (?:status|history|list|get|diff)"
    r"|systemctl (?:status|is-active|is-failed|show|list-units)"
    r"|docker (?:ps|logs|inspect|stats|top|images|version|info)|git (?:log|diff|show|status|blame)"
    r"|terraform (?:plan|show|state list|validate)|redis-cli (?:info|ping|slowlog get)"
    r"|aws [\w-]{1,30} (?:describe|list|get)-[\w-]{1,60}"
    r"|gcloud (?:[\w-]{1,30} ){1,3}(?:describe|list)"
    r"|no (?:further )?action (?:was |is )?(?:needed|required|taken)"
    r"|nothing (?:was |to )?(?:done|do)|"
    + any_of(
        "ping dig nslookup traceroute mtr df du top htop ps free uptime netstat ss journalctl"
        " dmesg lsof cat less head wc vmstat iostat sar who date pwd ls sort uniq cut jq column"
    )
    + rf"){E}"
)
_VISIBLE = things(
    "cpu memory mem ram disk io i/o iops network bandwidth latency latencies error rate log metric"
    " trace event alert dashboard graph traffic request qps rps throughput queue lag replication"
    " connection session thread heap gc inode load usage utilization utilisation saturation timeout"
    " retry retries pod node host replica container service endpoint status health uptime history"
    " version certificate dns record count value limit quota config configuration setting time"
    " timestamp p50 p90 p95 p99 4xx 5xx query queries lock partition consumer broker offset"
    " database db cache code exit_code backup volume namespace firewall audit_log"
)
_WHICH = any_of(
    "the its their any all every each both recent current last latest previous other open active"
    " slow failed high low api app application system kernel stack database db service pod node"
    " queue host user client server upstream downstream error"
)
_WHERE = any_of(
    "in on at for of from before after since during between against with per via across over under"
    " within whether if which how what when where why as than not until through around"
)
# What may follow a look-up in a list: more things to see; or where, when and whether.
MORE_TO_SEE = rf"^(?:(?:{_WHICH} ){{0,4}}{_VISIBLE}{E}|{_WHERE}{E}|[45]\d\d$)"

# A word of change as the name of a thing or a state, told by what stands around it:
# "restart count", "the last deploy", "was scaled", "dropped packets".
STATE_AFTER = (
    " "
    + things(
        "status history count loop reason time rate policy policies state metric event log version"
        " diff value setting file map drift plan pipeline progress error failure lag latency"
        " replica activity marker ratio speed load size duration throughput record note window date"
        " tag"
    )
    + E
)
NAMED_BEFORE = (
    B
    + any_of(
        "the a any last latest recent previous for of pod container config configuration schema"
        " each every this that no before after since code data result"
    )
    + " $"
)
_WAS = any_of("is are was were been being has had have got not just recently already did")
WAS_BEFORE = rf"{B}{_WAS} $"
WHETHER_BEFORE = rf"{B}(?:whether|if|when|why|how|what|which|who) {FEW}$"
WAIT_BEFORE = rf"^wait\w{{0,3}} (?:for|until) {FEW}(?:to )?$"
_HAPPENED = any_of(
    "happened occurred completed finished succeeded failed caused coincided correctly changed broke"
)
THEN = rf"(?:$| {_WHERE}{E}| {_WAS}{E}| {_HAPPENED}{E})"
THING_THEN = rf" [\w-]{{1,40}}{THEN}"
