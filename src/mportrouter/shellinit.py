"""
Shell functions that switch the router and point the clients of one shell at it: what ``mportrouter shell-init`` prints.

A program cannot change the variables of the shell that started it; a function of that shell can. Each shell gets
``claude-fb``, ``claude-switch``, ``claude-reset`` and ``claude-status``. What was set before is put back by
``claude-reset``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

SHELLS = ("bash", "zsh", "fish", "powershell")

#: What a client that must have a key sends, where the router wants no token of it.
ANY_KEY = "mportrouter"
#: The shell's variable with the gateway token, for a router that wants one.
TOKEN_VARIABLE = "MPORTROUTER_TOKEN"
#: Variables of clients that the functions set or hide.
VARIABLES = ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")

#: Marks lines of the templates that set or hide a credential.
_KEY = "#[key]"


@attrs.frozen
class Functions:
    """
    What the functions are made for.

    :param command: the words that start the ``mportrouter`` command.
    :param port: of the router that clients are pointed at.
    :param start: options for a router that must be started first: its configuration.
    :param where: options that say which router is meant.
    :param login: clients keep their own credential (for a mode that passes it on); only the base URL is set.
    """

    command: Sequence[str]
    port: int = 8787
    start: Sequence[str] = ()
    where: Sequence[str] = ()
    login: bool = False

    @property
    def url(self) -> str:
        """The base URL of clients."""
        return f"http://127.0.0.1:{self.port}"


def functions(shell: str, made_for: Functions) -> str:
    """
    The text to evaluate in a shell's start-up file.

    :param shell: one of :data:`SHELLS`.
    """
    template, quote = _TEMPLATES[shell]
    start = ("--port", str(made_for.port), "--start", *made_for.start)
    words = {
        "command": " ".join(map(quote, made_for.command)),
        "where": " ".join(map(quote, made_for.where)),
        "start": " ".join(map(quote, start)),
        "commas": ", ".join(map(quote, made_for.command)),
        "where_commas": ", ".join(map(quote, made_for.where)),
        "url": quote(made_for.url),
        "port": str(made_for.port),
        "any_key": ANY_KEY,
        "token": TOKEN_VARIABLE,
        "names": "ANTHROPIC_BASE_URL" if made_for.login else " ".join(VARIABLES),
        "how": _HOW[shell],
    }
    text = re.sub(r"@(\w+)@", lambda found: words[found[1]], template)
    # Options that are not there leave no space behind.
    text = re.sub(r" +$", "", re.sub(r"(?<=\S) {2,}(?=\S)", " ", text), flags=re.MULTILINE)
    lines = text.split("\n")
    if made_for.login:
        lines = [line for line in lines if _KEY not in line]
    return "\n".join(line.replace(_KEY, "").rstrip() for line in lines)


def clearing(shell: str) -> str:
    """The commands that take the variables of clients out of a shell."""
    if shell == "fish":
        return "\n".join(f"set -e {name}" for name in VARIABLES)
    if shell == "powershell":
        return "\n".join(f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in VARIABLES)
    return "unset " + " ".join(VARIABLES)


def _quote_sh(word: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9@%+=:,./_-]+", word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _quote_fish(word: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9@+=:,./_-]+", word):
        return word
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quote_powershell(word: str) -> str:
    # Typographic quotation marks end a string there too.
    return "'" + re.sub("['‘’‚‛]", lambda mark: mark[0] * 2, word) + "'"


_HOW = {
    "bash": 'in ~/.bashrc:  eval "$(mportrouter shell-init bash)"',
    "zsh": 'in ~/.zshrc:  eval "$(mportrouter shell-init zsh)"',
    "fish": "in ~/.config/fish/config.fish:  mportrouter shell-init fish | source",
    "powershell": "in $PROFILE:  mportrouter shell-init powershell | Out-String | Invoke-Expression",
}

_SH = """\
# Functions of mportrouter; @how@

_mportrouter() { command @command@ "$@" @where@; }

# Point the clients of this shell at the router, once; what was set before is kept for claude-reset.
_mportrouter_on() {
    local name
    if [ "${ANTHROPIC_BASE_URL-}" != @url@ ]; then
        for name in @names@; do
            eval "unset _mportrouter_old_$name; [ -z \\"\\${$name+x}\\" ] || _mportrouter_old_$name=\\"\\$$name\\""
        done
    fi
    export ANTHROPIC_BASE_URL=@url@
    export ANTHROPIC_API_KEY="${@token@:-@any_key@}" #[key]
    unset ANTHROPIC_AUTH_TOKEN #[key]
}

_mportrouter_off() {
    local name
    [ "${ANTHROPIC_BASE_URL-}" = @url@ ] || return 0
    for name in @names@; do
        unset "$name"
        eval "[ -z \\"\\${_mportrouter_old_$name+x}\\" ] || export $name=\\"\\$_mportrouter_old_$name\\""
        unset "_mportrouter_old_$name"
    done
}

# All providers in their order, with failover. Starts the router where none runs.
claude-fb() { _mportrouter fallback @start@ "$@" && _mportrouter_on; }

# One provider, without failover: claude-switch NAME
claude-switch() {
    case "${1-}" in -Provider|--provider) shift ;; esac
    if [ $# -eq 0 ]; then
        echo "usage: claude-switch PROVIDER" >&2
        return 2
    fi
    _mportrouter switch "$@" @start@ && _mportrouter_on
}

# Stop the router; the clients of this shell are as before.
claude-reset() {
    _mportrouter reset --quiet "$@"
    local ended=$?
    _mportrouter_off
    return $ended
}

claude-status() {
    if [ "${ANTHROPIC_BASE_URL-}" = @url@ ]; then
        echo "Clients of this shell go to the router at @url@."
    else
        echo "Clients of this shell go to ${ANTHROPIC_BASE_URL:-Anthropic itself}."
    fi
    _mportrouter status --port @port@ "$@"
}
"""

_FISH = """\
# Functions of mportrouter; @how@

function _mportrouter
    command @command@ $argv @where@
end

# Point the clients of this shell at the router, once; what was set before is kept for claude-reset.
function _mportrouter_on
    if test "$ANTHROPIC_BASE_URL" != @url@
        for name in @names@
            set -e _mportrouter_old_$name
            if set -q $name
                set -g _mportrouter_old_$name $$name
            end
        end
    end
    set -gx ANTHROPIC_BASE_URL @url@
    if set -q @token@; and test -n "$@token@" #[key]
        set -gx ANTHROPIC_API_KEY $@token@ #[key]
    else #[key]
        set -gx ANTHROPIC_API_KEY @any_key@ #[key]
    end #[key]
    set -e ANTHROPIC_AUTH_TOKEN #[key]
    return 0
end

function _mportrouter_off
    if test "$ANTHROPIC_BASE_URL" != @url@
        return 0
    end
    for name in @names@
        set -e $name
        set -l old _mportrouter_old_$name
        if set -q $old
            set -gx $name $$old
            set -e $old
        end
    end
end

function claude-fb --description 'All providers in their order, with failover'
    _mportrouter fallback @start@ $argv; and _mportrouter_on
end

function claude-switch --description 'One provider, without failover'
    if contains -- "$argv[1]" -Provider --provider
        set -e argv[1]
    end
    if test (count $argv) -eq 0
        echo "usage: claude-switch PROVIDER" >&2
        return 2
    end
    _mportrouter switch $argv @start@; and _mportrouter_on
end

function claude-reset --description 'Stop the router; the clients of this shell are as before'
    _mportrouter reset --quiet $argv
    set -l ended $status
    _mportrouter_off
    return $ended
end

function claude-status --description 'Where the clients of this shell go, and what the router does'
    if test "$ANTHROPIC_BASE_URL" = @url@
        echo "Clients of this shell go to the router at @url@."
    else if set -q ANTHROPIC_BASE_URL
        echo "Clients of this shell go to $ANTHROPIC_BASE_URL."
    else
        echo "Clients of this shell go to Anthropic itself."
    end
    _mportrouter status --port @port@ $argv
end
"""

_POWERSHELL = """\
# Functions of mportrouter; @how@

function Invoke-MportRouter {
    $words = @(@commas@) + $args + @(@where_commas@)
    $program, $rest = $words
    & $program @rest
}

# Point the clients of this shell at the router, once; what was set before is kept for claude-reset.
function Enable-MportRouter {
    if ($env:ANTHROPIC_BASE_URL -ne @url@) {
        $global:MportRouterOld = @{}
        foreach ($name in '@names@' -split ' ') {
            $global:MportRouterOld[$name] = [Environment]::GetEnvironmentVariable($name)
        }
    }
    $env:ANTHROPIC_BASE_URL = @url@
    if ($env:@token@) { $env:ANTHROPIC_API_KEY = $env:@token@ } else { $env:ANTHROPIC_API_KEY = '@any_key@' } #[key]
    Remove-Item Env:ANTHROPIC_AUTH_TOKEN -ErrorAction SilentlyContinue #[key]
}

function Disable-MportRouter {
    if ($env:ANTHROPIC_BASE_URL -ne @url@) { return }
    foreach ($name in '@names@' -split ' ') {
        $old = if ($global:MportRouterOld) { $global:MportRouterOld[$name] } else { $null }
        if ($null -eq $old) { Remove-Item "Env:$name" -ErrorAction SilentlyContinue }
        else { Set-Item "Env:$name" $old }
    }
    $global:MportRouterOld = $null
}

# All providers in their order, with failover. Starts the router where none runs.
function claude-fb {
    Invoke-MportRouter 'fallback' @start@ @args
    if ($LASTEXITCODE -eq 0) { Enable-MportRouter }
}

# One provider, without failover: claude-switch -Provider NAME
function claude-switch {
    param([Parameter(Mandatory = $true, Position = 0)][string]$Provider)
    Invoke-MportRouter 'switch' $Provider @start@
    if ($LASTEXITCODE -eq 0) { Enable-MportRouter }
}

# Stop the router; the clients of this shell are as before.
function claude-reset {
    Invoke-MportRouter 'reset' '--quiet' @args
    Disable-MportRouter
}

function claude-status {
    if ($env:ANTHROPIC_BASE_URL) { "Clients of this shell go to $($env:ANTHROPIC_BASE_URL)." }
    else { 'Clients of this shell go to Anthropic itself.' }
    Invoke-MportRouter 'status' '--port' '@port@' @args
}
"""

_TEMPLATES = {
    "bash": (_SH, _quote_sh),
    "zsh": (_SH, _quote_sh),
    "fish": (_FISH, _quote_fish),
    "powershell": (_POWERSHELL, _quote_powershell),
}
