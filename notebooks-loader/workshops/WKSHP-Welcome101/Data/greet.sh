#!/bin/bash
# Rendered for each participant: the number below is yours.
echo "Hello, student{{ STDID }}! This {% if MODEWS == 'CHLG' %}challenge{% else %}workshop{% endif %} was laid out for you by {{ BRANDING }}."
