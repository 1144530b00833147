# page_files.cmake — from the built page (a folder) to a table of its files in C, each compressed where that makes it
# smaller. Run as a script: cmake -DFOLDER=web/dist -DOUT=page_files.c -DGZIP=gzip -P page_files.cmake. Without the
# folder the table holds one page that says so; without gzip the files are as they are.
cmake_minimum_required(VERSION 3.18)

set(names)
if(EXISTS ${FOLDER}/index.html)
  file(GLOB_RECURSE names RELATIVE ${FOLDER} ${FOLDER}/*)
  list(SORT names)
else()
  set(FOLDER ${OUT}.folder)
  file(WRITE ${FOLDER}/index.html "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">
<title>zamba</title>
<h1>zamba</h1><p>The server runs; its page was not there when it was built (web/dist).
The APIs are: /openapi.json</p></html>
")
  set(names index.html)
endif()

set(arrays "")
set(rows "")
set(count 0)
foreach(name ${names})
  if(name MATCHES "[^A-Za-z0-9._/-]" OR name MATCHES "(^|/)\\." OR name MATCHES "\\.(map|gz|br)$")
    continue() # no path of the page's, or not for the server
  endif()
  set(path ${FOLDER}/${name})
  file(SHA256 ${path} sum)
  string(SUBSTRING ${sum} 0 20 sum)
  file(SIZE ${path} size)
  set(packed 0)
  if(GZIP AND NOT name MATCHES "\\.(woff2|png|jpg|webp|ico)$")
    execute_process(COMMAND ${GZIP} -9 -n -c ${path} OUTPUT_FILE ${OUT}.gz RESULT_VARIABLE failed)
    file(SIZE ${OUT}.gz packed_size)
    if(NOT failed AND packed_size LESS size)
      set(packed 1)
      set(path ${OUT}.gz)
    endif()
  endif()
  file(READ ${path} bytes HEX)
  if(bytes STREQUAL "")
    set(bytes "00")
  endif()
  string(REGEX REPLACE "(................................................)" "\\1\n" bytes "${bytes}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  file(SIZE ${path} stored)
  string(APPEND arrays "static const unsigned char f${count}[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"/${name}\", \"${sum}\", f${count}, ${stored}, ${size}, ${packed}},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(REMOVE ${OUT}.gz)
file(WRITE ${OUT} "/* page_files.c — made by packaging/page_files.cmake from web/dist. */
#include \"page_files.h\"

${arrays}
const sv_page_file sv_page_files[] = {
${rows}};
const size_t sv_n_page_files = ${count};
")
