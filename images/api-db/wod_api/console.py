"""The operators' pages."""

from fastapi import APIRouter

pages = APIRouter(prefix="/console", include_in_schema=False)
