//! x
use super::error::Problem;
use actix_web::HttpResponse;
pub async fn show() -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().finish())
}
pub async fn docs() -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().finish())
}
pub async fn docs_file() -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().finish())
}
