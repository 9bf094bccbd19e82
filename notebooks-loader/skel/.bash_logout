# Read when a login shell ends: leave a clean screen to whoever comes next.

if [ "$SHLVL" = 1 ] && [ -t 1 ]; then
    clear
fi
