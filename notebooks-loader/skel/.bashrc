# Read by every interactive Bash: terminals, and the Bash notebooks.

case $- in
    *i*) ;;
    *) return ;;
esac

export EDITOR=vim VISUAL=vim PAGER=less

# Remember much, and nothing twice.
HISTCONTROL=ignoreboth
HISTSIZE=5000
HISTFILESIZE=10000
shopt -s histappend checkwinsize globstar

# student3:~/WKSHP-Welcome101$ in green and blue; the folder's end is enough where it lies deep.
PROMPT_DIRTRIM=3
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
    PS1='\[\e[1;32m\]\u\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '
else
    PS1='\u:\w\$ '
fi

if [ -f ~/.bash_aliases ]; then
    . ~/.bash_aliases
fi
if [ -f /usr/share/bash-completion/bash_completion ]; then
    . /usr/share/bash-completion/bash_completion
fi
