# Short names for what one types often. Add your own.

alias ls='ls --color=auto'
alias ll='ls -l --human-readable'
alias la='ls -l --human-readable --almost-all'
alias grep='grep --color=auto'
alias ..='cd ..'
