# Login shells start from Debian's PATH: put the kernels' Python, ansible and httpie back, and what `pip install` adds.
PATH=$HOME/.local/bin:/opt/kernels/bin:$PATH
export PATH
